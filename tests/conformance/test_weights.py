"""Fetching weights from a hub: one on loopback that speaks as much of the protocol as we need."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub.constants
import pytest

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


class Hub(ThreadingHTTPServer):
    """A hub that has one repository and writes down what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = dict(FILES)
        self.asked: list[str] = []
        self.tokens: list[str | None] = []


class HubHandler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        self.server.tokens.append(self.headers["Authorization"])
        headers, content = {}, b""
        if "/revision/" in path:
            repository, _, commit = path.removeprefix("/api/models/").partition("/revision/")
            files = [
                {"rfilename": name, "size": len(data)} for name, data in self.server.files.items()
            ]
            content = json.dumps(
                {"id": repository, "modelId": repository, "sha": commit, "siblings": files}
            ).encode()
        elif "/resolve/" in path:
            commit, _, name = path.partition("/resolve/")[2].partition("/")
            content = self.server.files[name]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self.send_response(200)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as hub:
        thread = Thread(target=hub.serve_forever)
        thread.start()
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        yield hub
        hub.shutdown()
        thread.join()


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
