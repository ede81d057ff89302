"""Fetching weights from a hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub import Hub, running_hub

from shared.catalogue import Model
from shared.errors import ModelError
from worker.engines import weights

FILES = {
    "config.json": b"{}",
    "model.bin": b"m" * 300_000,
    "tokenizer.json": b"{ }",
    "vocabulary.txt": b"a",
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
    total = sum(len(data) for name, data in FILES.items() if name != "README.md")
    assert progress == sorted(progress)
    assert progress[-1] == (total, total)
    assert [path for path in hub.asked if model.revision not in path] == []
    assert set(hub.tokens) == {None}
    hub.asked.clear()
    assert weights.download(model, lambda done, total: None) == folder
    assert hub.asked == []


def test_repository_without_a_needed_file_is_a_clear_error(
    hub: Hub, catalogue_models: dict[str, Model]
) -> None:
    del hub.files["tokenizer.json"]

    with pytest.raises(ModelError, match=r"has no tokenizer\.json at the pinned revision"):
        weights.download(catalogue_models["whisper-base"], lambda done, total: None)


def test_hub_that_is_gone_does_not_answer_and_fails_the_download(
    hub: Hub, catalogue_models: dict[str, Model]
) -> None:
    assert weights.hub_answers()
    hub.shutdown()
    hub.server_close()

    assert not weights.hub_answers(timeout_s=1)
    with pytest.raises(ModelError, match="cannot be fetched from Systran/faster-whisper-base"):
        weights.download(catalogue_models["whisper-base"], lambda done, total: None)
