# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["nemo_toolkit[asr]>=2.4,<3", "onnx", "pydantic>=2.12", "pydantic-settings>=2.11"]
# ///
"""Download a NeMo model, export it to ONNX for its engine, and pin it.

    uv run deploy/export_nemo.py conformer-hindi
    uv run deploy/export_nemo.py sortformer

uv makes an environment of its own for this (several GB), beside that of Longhand. Without uv: make
one, install what stands above, and run this file with its Python. The model goes into the folder
that the catalogue names for it ('file:...'), and its digest into the lock file beside that.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared.infra.errors import LonghandError  # noqa: E402
from shared.models import weights  # noqa: E402
from shared.models.catalogue import load_catalogue  # noqa: E402
from shared.models.entries import DiarizationModel  # noqa: E402
from shared.models.pinning import find_newest  # noqa: E402
from shared.models.pins import write_pin  # noqa: E402

VOICES = "campplus-seg3"
"""The model whose network for voices is put beside Sortformer's."""


def main() -> None:
    """Export and pin what the command line names; a failure is one line."""
    parser = argparse.ArgumentParser(
        description="Export a NeMo model to ONNX for Longhand, and pin it."
    )
    parser.add_argument("model", help="id in the catalogue, such as conformer-hindi")
    parser.add_argument("--nemo-name", help="NVIDIA's name of it; default: as the folder is called")
    parser.add_argument(
        "--catalogue",
        type=Path,
        default=Path(os.environ.get("LONGHAND_CATALOGUE", ROOT / "models.toml")),
        help="default: LONGHAND_CATALOGUE, or this tree's",
    )
    parser.add_argument("--pin-only", action="store_true", help="pin the folder as it is")
    arguments = parser.parse_args()
    try:
        catalogue = load_catalogue(arguments.catalogue)
        diarizer = catalogue.diarizers.get(arguments.model)
        model = diarizer or catalogue.entry(arguments.model)
        folder = model.folder
        if model.engine not in ("onnx-ctc", "sortformer") or folder is None:
            parser.error(f"'{model.id}' is no model of onnx-ctc or sortformer in a folder")
        if not arguments.pin_only and diarizer is not None:
            name = arguments.nemo_name or f"nvidia/{folder.name}"
            replace_folder(folder, partial(export_sortformer, name, catalogue.diarizers[VOICES]))
        elif not arguments.pin_only:
            replace_folder(folder, partial(export, arguments.nemo_name or folder.name))
        sys.stdout.write(f"{pin(arguments.catalogue, model)}\n")
    except LonghandError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "))


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder of its own, and put that in the place of ``folder`` when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(place)
        place.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def export(nemo_name: str, folder: Path) -> None:
    """Download a model from NVIDIA and write the three files that onnx-ctc reads."""
    write_files(_nemo("ASRModel").from_pretrained(nemo_name), folder)


def export_sortformer(nemo_name: str, voices: DiarizationModel, folder: Path) -> None:
    """Download a Sortformer from NVIDIA and write the two files that sortformer reads.

    The second is the network for voices of another model, fetched where it is not here.
    """
    network = _nemo("SortformerEncLabelModel").from_pretrained(nemo_name, map_location="cpu")
    write_streamed_graph(network.eval(), folder)
    found = weights.download(voices, lambda *_: None)
    shutil.copyfile(found / "embedding.onnx", folder / "embedding.onnx")


def _nemo(name: str) -> Any:
    """Return a class of NeMo's models."""
    try:
        from nemo.collections.asr import models  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        sys.exit("error: NeMo is not installed here: uv run deploy/export_nemo.py ...")
    return getattr(models, name)


def write_streamed_graph(model: Any, folder: Path) -> None:
    """Write ``sortformer.onnx``: NeMo's export for streams, with as many features as it hears.

    NeMo's own example has 80 features, and the models since the second version hear 128.
    """
    chunk, *caches = model.streaming_input_examples()
    shape = (chunk.shape[0], chunk.shape[1], model.cfg.preprocessor.features)
    example = (chunk.new_zeros(shape), *caches)
    model.export(str(folder / "sortformer.onnx"), input_example=example)


def write_files(model: Any, folder: Path) -> None:
    """Write ``model.onnx``, ``vocab.txt`` and ``config.json`` of a NeMo model."""
    if hasattr(model, "joint"):  # a hybrid: its transducer stays behind
        model.set_export_config({"decoder_type": "ctc"})
    model.export(str(folder / "model.onnx"))
    # One symbol and its number a line; the blank is the last.
    symbols = [*model.tokenizer.vocab, "<blk>"]
    lines = "".join(f"{symbol} {number}\n" for number, symbol in enumerate(symbols))
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    config = {
        "model_type": "nemo-conformer-ctc",
        "features_size": model.cfg.preprocessor.features,
        # Feature frames (10 ms) to one frame of the network: 4 in conformers, 8 in fast ones. All
        # times follow from it, and a factor too large would drop the end of every chunk.
        "subsampling_factor": model.cfg.encoder.subsampling_factor,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def pin(catalogue: Path, model: weights.AnyModel) -> str:
    """Write the folder's digest into the lock file; return a sentence that says so.

    Raises:
        ModelError: a file is missing, or the catalogue itself pins the model.
    """
    found = find_newest(model)
    lock = write_pin(catalogue, model.id, found.pin)
    return f"{model.id} is pinned in {lock.name}: {found.pin.revision}"


if __name__ == "__main__":
    main()
