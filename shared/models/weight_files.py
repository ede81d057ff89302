"""The files that make up a model's weights, by layout, and which of them a folder has.

A layout (``Model.layout``) is an engine, and the quantization where there is one.

No other files are fetched, hashed or loaded: no training state, no second format. PyTorch's pickles
(``pytorch_model.bin``) can run code when they are unpickled, which nothing here does: those of
diarizers are read by ``conversion.checkpoints``. CTranslate2's ``model.bin`` is plain data.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

SAFETENSORS, SHARD_INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = "model-?????-of-?????.safetensors"
"""Large weights are split into shards. The index names the shard that holds each tensor."""

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Files:
    """The files that an engine reads from a repository or folder."""

    required: tuple[tuple[str, ...], ...]
    """Groups of alternatives: at least one of each must be there, and all that are there count.
    Names may have folders (``plda/plda.npz``)."""
    optional: tuple[str, ...] = ()


_FEATURES = ("preprocessor_config.json", "processor_config.json")
_TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

_GRAPHS = {
    "onnx-ctc": ("model",),
    "onnx-transducer": ("encoder-model", "decoder_joint-model"),
}


def _onnx_files(graphs: Iterable[str]) -> Files:
    """Return the files of an export: its graphs, symbols and configuration.

    The configuration has the number of frames that the network merges into one. Graphs above 2 GB
    have their tensors in a second file, whose name is the exporter's.
    """
    names = [f"{graph}.onnx" for graph in graphs]
    return Files(
        required=(("config.json",), *((name,) for name in names), ("vocab.txt",)),
        optional=tuple(f"{name}{end}" for name in names for end in (".data", "_data")),
    )


FILES: Mapping[str, Files] = {
    "faster-whisper": Files(
        required=(
            ("config.json",),
            ("model.bin",),
            ("tokenizer.json",),
            ("vocabulary.json", "vocabulary.txt"),
        ),
        # It says how many mel bands the model hears; without it they are 80.
        optional=("preprocessor_config.json",),
    ),
    "transformers-whisper": Files(
        required=(
            ("config.json",),
            ("generation_config.json",),
            (SAFETENSORS, SHARD_INDEX),
            _FEATURES,
            ("tokenizer.json", "vocab.json"),
        ),
        optional=("merges.txt", "normalizer.json", *_TOKENIZER_EXTRAS),
    ),
    "transformers-ctc": Files(
        required=(("config.json",), (SAFETENSORS, SHARD_INDEX), _FEATURES, ("vocab.json",)),
        optional=_TOKENIZER_EXTRAS,
    ),
    **{
        f"{engine}{suffix.replace('.', ' ')}": _onnx_files([f"{name}{suffix}" for name in graphs])
        for engine, graphs in _GRAPHS.items()
        for suffix in ("", ".int8")
    },
    "campplus-seg3": Files(required=(("segmentation.onnx",), ("embedding.onnx",))),
    "sortformer": Files(required=(("sortformer.onnx",), ("embedding.onnx",))),
    "pyannote-community-1": Files(
        required=(
            ("segmentation/pytorch_model.bin",),
            ("embedding/pytorch_model.bin",),
            ("plda/plda.npz",),
            ("plda/xvec_transform.npz",),
        )
    ),
}
"""By layout. The packages of other engines contain their weights."""


def choose(layout: str, names: Iterable[str]) -> list[str]:
    """Return a layout's files among all of a repository or folder, sorted.

    Whole weights are preferred to shards.
    """
    there, files = set(names), FILES[layout]
    chosen = there & set(files.optional).union(*files.required)
    if SAFETENSORS in chosen:
        chosen.discard(SHARD_INDEX)
    elif SHARD_INDEX in chosen:
        chosen.update(name for name in there if fnmatchcase(name, SHARDS))
    return sorted(chosen)


def missing(layout: str, chosen: Iterable[str]) -> list[str]:
    """Return what the layout requires and the chosen files lack."""
    there = set(chosen)
    return [" or ".join(group) for group in FILES[layout].required if not there.intersection(group)]


def is_required(layout: str, name: str) -> bool:
    """Whether the layout requires the file, or its group of alternatives."""
    return name not in FILES[layout].optional


def present(layout: str, folder: Path) -> list[str] | None:
    """Return the names of a layout's files in a folder; None if a required one is missing."""
    if not folder.is_dir():
        return None
    chosen = choose(layout, listed(layout, folder))
    if missing(layout, chosen):
        return None
    if SHARD_INDEX in chosen:
        index = json.loads((folder / SHARD_INDEX).read_text(encoding="utf-8"))
        if not set(index["weight_map"].values()) <= set(chosen):
            return None
    return chosen


def listed(layout: str, folder: Path) -> list[str]:
    """Return the names of all files in the folders of a layout, whether it reads them or not."""
    files = FILES[layout]
    parents = {PurePosixPath(name).parent for name in set(files.optional).union(*files.required)}
    return [
        (parent / path.name).as_posix()
        for parent in sorted(parents)
        if (folder / parent).is_dir()
        for path in (folder / parent).iterdir()
        if path.exists()
    ]


def first_required(layout: str) -> str:
    """Return the name of a file that every copy of a layout's weights has."""
    return next(group[0] for group in FILES[layout].required if len(group) == 1)


def digest(folder: Path, names: Iterable[str] | None = None) -> str:
    """Return a digest of files' names and contents: 'sha256:...'.

    The names are relative to the folder; None: all, in subfolders too. The hub's cache links large
    files to blobs that are named by their SHA-256. Such a file is not read, because a worker would
    read its weights, some 3 GB, twice at its start.
    """
    paths = folder.rglob("*") if names is None else (folder / name for name in names)
    total = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(_content_digest(path))
    return f"sha256:{total.hexdigest()}"


def _content_digest(path: Path) -> bytes:
    if path.is_symlink() and _SHA256_HEX.fullmatch(path.readlink().name):
        return bytes.fromhex(path.readlink().name)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
