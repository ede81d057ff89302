"""Fetching weights from a hub on loopback, and finding those in folders."""

import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from harness.peers.hub import Hub, running_hub
from shared.infra.errors import ModelError
from shared.models import weight_files as files
from shared.models import weights
from shared.models.catalogue import Model
from shared.models.entries import DiarizationModel
from shared.models.hub import answers as hub_answers
from shared.models.weight_files import digest

FILES = {
    "config.json": b"{}",
    "model.bin": b"m" * 300_000,
    "tokenizer.json": b"{ }",
    "vocabulary.txt": b"a",
    "preprocessor_config.json": b"{   }",
    "README.md": b"not needed",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub(FILES) as hub:
        endpoint = hub.url
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        yield hub


def test_download_fetches_the_pinned_files_once_without_a_token(
    hub: Hub, catalogue_models: dict[str, Model]
) -> None:
    model = catalogue_models["whisper-base"]
    progress: list[tuple[int, int]] = []
    assert weights.cached(model) is None

    folder = weights.download(model, lambda done, total: progress.append((done, total)))

    assert weights.cached(model) == folder
    assert {path.name for path in folder.iterdir()} == set(FILES) - {"README.md"}
    assert (folder / "model.bin").read_bytes() == FILES["model.bin"]
    # What it cannot do without comes last, the largest at the very end.
    fetched = [path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path]
    assert fetched[0] == "preprocessor_config.json"
    assert fetched[-1] == "model.bin"
    total = sum(len(data) for name, data in FILES.items() if name != "README.md")
    assert progress == sorted(progress)
    assert progress[-1] == (total, total)
    assert [path for path in hub.asked if model.revision not in path] == []
    assert set(hub.tokens) == {None}
    hub.asked.clear()
    assert weights.download(model, lambda done, total: None) == folder
    assert hub.asked == []


def test_files_in_folders_of_a_repository_are_fetched_and_found(hub: Hub) -> None:
    hub.files = {
        "config.yaml": b"not needed",
        "segmentation/pytorch_model.bin": b"s" * 2_000,
        "embedding/pytorch_model.bin": b"e" * 3_000,
        "plda/plda.npz": b"p",
        "plda/xvec_transform.npz": b"x",
        "plda/README.md": b"not needed",
    }
    model = DiarizationModel(
        id="voices",
        kind="diarization",
        description="Of somebody who gives it to everybody.",
        engine="pyannote-community-1",
        source="somebody/community-1",
        revision="c" * 40,
        size_bytes=1,
    )
    assert weights.cached(model) is None

    folder = weights.download(model, lambda done, total: None)

    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {name for name, content in hub.files.items() if content != b"not needed"}
    assert weights.cached(model) == folder
    assert weights.pinned(model) == (folder, digest(folder))


def test_repository_without_a_needed_file_is_a_clear_error(
    hub: Hub, catalogue_models: dict[str, Model]
) -> None:
    del hub.files["tokenizer.json"]

    with pytest.raises(ModelError, match=r"has no tokenizer\.json at the pinned revision"):
        weights.download(catalogue_models["whisper-base"], lambda done, total: None)


def test_hub_that_is_gone_does_not_answer_and_fails_the_download(
    hub: Hub, catalogue_models: dict[str, Model]
) -> None:
    assert hub_answers()
    hub.shutdown()
    hub.server_close()

    assert not hub_answers()
    with pytest.raises(ModelError, match="cannot be fetched from Systran/faster-whisper-base"):
        weights.download(catalogue_models["whisper-base"], lambda done, total: None)


SHARDED = {
    "model.safetensors.index.json": json.dumps(
        {
            "weight_map": {
                "a": "model-00001-of-00002.safetensors",
                "b": "model-00002-of-00002.safetensors",
            }
        }
    ).encode(),
    "model-00001-of-00002.safetensors": b"1",
    "model-00002-of-00002.safetensors": b"22",
}
EXPORTED = {"config.json": b"{}", "vocab.txt": b""}
WHOLE = {
    "encoder-model.onnx": b"graph",
    "encoder-model.onnx.data": b"1",
    "decoder_joint-model.onnx": b"graph",
}
QUANTIZED = {"encoder-model.int8.onnx": b"graph", "decoder_joint-model.int8.onnx": b"graph"}
NOT_NEEDED = {
    "README.md": b"",
    "pytorch_model.bin": b"a pickle",
    "training_args.bin": b"a pickle",
    "model.fp32-00001-of-00002.safetensors": b"",
    "optimizer.safetensors": b"",
    "modeling_custom.py": b"",
}
REPOSITORIES = {
    "whisper": (
        "transformers-whisper",
        {
            "config.json": b"{}",
            "generation_config.json": b"{}",
            "model.safetensors": b"m",
            "preprocessor_config.json": b"{}",
            "tokenizer.json": b"{}",
            "merges.txt": b"",
        },
    ),
    "ctc": (
        "transformers-ctc",
        {
            "config.json": b"{}",
            "model.safetensors": b"m",
            "preprocessor_config.json": b"{}",
            "vocab.json": b"{}",
            "tokenizer_config.json": b"{}",
        },
    ),
    "sharded ctc": (
        "transformers-ctc",
        {
            "config.json": b"{}",
            "processor_config.json": b"{}",
            "vocab.json": b"{}",
        }
        | SHARDED,
    ),
    "conformer": (
        "onnx-ctc",
        {"config.json": b"{}", "model.onnx": b"graph", "vocab.txt": b"", "model.onnx.data": b"1"},
    ),
    "transducer": ("onnx-transducer", EXPORTED | WHOLE),
}


def entry(engine: str, source: str, revision: str) -> Model:
    return Model.model_validate(
        {
            "id": "mine",
            "description": "Mine.",
            "engine": engine,
            "source": source,
            "revision": revision,
            "languages": ["en"],
            "window_s": 20,
            "vad": "silero",
            "size_bytes": 1,
        }
    )


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_each_engine_fetches_its_files_and_no_others(hub: Hub, repository: str) -> None:
    engine, needed = REPOSITORIES[repository]
    hub.files = needed | NOT_NEEDED
    model = entry(engine, "someone/something", "0" * 40)

    folder = weights.download(model, lambda done, total: None)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == needed
    assert weights.pinned(model).folder == folder


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_folder_that_lacks_any_needed_file_is_not_taken_for_weights(
    repository: str, tmp_path: Path
) -> None:
    engine, needed = REPOSITORIES[repository]
    for name, content in needed.items():
        (tmp_path / name).write_bytes(content)
    names = files.present(engine, tmp_path)
    assert names == sorted(needed)
    model = entry(engine, f"file:{tmp_path}", digest(tmp_path, names))
    assert weights.pinned(model) == (tmp_path, model.revision)

    for name in needed:
        if not files.is_required(engine, name):
            continue
        (tmp_path / name).rename(tmp_path / "elsewhere")
        assert weights.cached(model) is None
        with pytest.raises(ModelError, match="the folder of model 'mine' has no "):
            weights.pinned(model)
        with pytest.raises(ModelError, match="the folder of model 'mine' has no "):
            weights.download(model, lambda done, total: None)
        (tmp_path / "elsewhere").rename(tmp_path / name)


def test_an_entry_takes_the_quantization_that_it_names_of_a_repository_with_several(
    hub: Hub,
) -> None:
    hub.files = EXPORTED | WHOLE | QUANTIZED
    whole = entry("onnx-transducer", "someone/something", "0" * 40)
    int8 = whole.model_copy(update={"quantization": "int8"})

    for model, needed in ((int8, QUANTIZED), (whole, WHOLE)):
        assert weights.cached(model) is None
        folder = weights.download(model, lambda done, total: None)
        assert {path.name for path in folder.iterdir()} >= {*EXPORTED, *needed}
        assert files.present(model.layout, folder) == sorted(EXPORTED | needed)
        if model is int8:
            assert not (folder / "encoder-model.onnx").exists()


def test_whole_weights_are_preferred_to_shards() -> None:
    there = {"config.json", "model.safetensors", *SHARDED}

    assert files.choose("transformers-ctc", there) == ["config.json", "model.safetensors"]


def test_interrupted_download_is_not_taken_for_a_whole_one(
    hub: Hub, catalogue_models: dict[str, Model]
) -> None:
    model = catalogue_models["whisper-base"]

    def stop(done: int, total: int) -> None:
        if done >= total - len(FILES["model.bin"]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.download(model, stop)

    assert weights.cached(model) is None


def test_digest_of_the_cache_is_that_of_the_files_and_reads_no_large_one_twice(
    hub: Hub, catalogue_models: dict[str, Model], tmp_path: Path
) -> None:
    folder = weights.download(catalogue_models["whisper-base"], lambda done, total: None)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert digest(folder) == digest(copy)

    (folder / "model.bin").resolve().write_bytes(b"not read")

    assert digest(folder) == digest(copy)


def test_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    seen = set()
    for name, content in (("a", b"1"), ("a", b"2"), ("b", b"2"), ("a/b", b"2")):
        folder = tmp_path / str(len(seen))
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
        seen.add(digest(folder))

    assert len(seen) == 4


def test_files_that_no_engine_reads_change_no_digest(tmp_path: Path) -> None:
    engine, needed = REPOSITORIES["ctc"]
    for name, content in needed.items():
        (tmp_path / name).write_bytes(content)
    before = digest(tmp_path, files.present(engine, tmp_path))
    (tmp_path / "README.md").write_text("How it was made.")

    assert digest(tmp_path, files.present(engine, tmp_path)) == before


def test_operator_of_an_unpinned_folder_is_told_its_digest(tmp_path: Path) -> None:
    engine, needed = REPOSITORIES["conformer"]
    model = entry(engine, f"file:{tmp_path / 'mine'}", "unpinned")
    assert "docs/models.md says how" in str(weights.why_not_pinned(model))
    (tmp_path / "mine").mkdir()
    for name, content in needed.items():
        (tmp_path / "mine" / name).write_bytes(content)

    told = weights.why_not_pinned(model)

    assert told is not None
    pinned = model.model_copy(update={"revision": told.split('"')[1]})
    assert weights.why_not_pinned(pinned) is None
    assert weights.pinned(pinned).digest == pinned.revision
