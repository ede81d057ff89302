"""A model hub on loopback that speaks as much of the protocol as we need."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub(ThreadingHTTPServer):
    """A hub that has one repository and writes down what it was asked."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = dict(files)
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.newest = "f" * 40
        """The commit that a question without a revision is answered with."""
        self.facts: dict[str, object] = {}
        """What else is said of the repository."""
        self.refusal: tuple[int, str] | None = None
        """Status and X-Error-Code of every answer; None: it answers."""


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
        status = 200
        if self.server.refusal is not None:
            status, headers["X-Error-Code"] = self.server.refusal
        elif path.startswith("/api/models/"):
            repository, _, commit = path.removeprefix("/api/models/").partition("/revision/")
            commit = commit or self.server.newest
            files = [
                {"rfilename": name, "size": len(data)} for name, data in self.server.files.items()
            ]
            content = json.dumps(
                {"id": repository, "modelId": repository, "sha": commit, "siblings": files}
                | self.server.facts
            ).encode()
        elif "/resolve/" in path:
            commit, _, name = path.partition("/resolve/")[2].partition("/")
            content = self.server.files[name]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def running_hub(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Serve files, as those of whatever repository is asked for, while the block runs."""
    with Hub(files) as hub:
        thread = Thread(target=hub.serve_forever)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
