"""A package index on loopback, and wheels that carry a model."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from zipfile import ZipFile

NO_INDEX = {"PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "PIP_NO_INDEX": "1"}
"""pip's variables where there is no package index."""


class PackageIndex(ThreadingHTTPServer):
    """An index of a few wheels that writes down what it was asked."""

    def __init__(self, wheels: tuple[Path, ...]) -> None:
        super().__init__(("127.0.0.1", 0), PackageHandler)
        self.wheels = {path.name: path for path in wheels}
        self.asked: list[str] = []
        self.open = Event()
        """While it is not set, a wheel's bytes stop in the middle."""
        self.open.set()

    @property
    def env(self) -> dict[str, str]:
        """pip's variables that name this index, and no other."""
        return {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_FIND_LINKS": "",
            "PIP_INDEX_URL": f"http://127.0.0.1:{self.server_port}/simple",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
        }

    @property
    def fetched(self) -> list[str]:
        """The names of the wheels that were asked for."""
        return [path.rpartition("/")[2] for path in self.asked if path.startswith("/files/")]


class PackageHandler(BaseHTTPRequestHandler):
    server: PackageIndex

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "files" and name in self.server.wheels:
            self._send(self.server.wheels[name].read_bytes(), "application/octet-stream")
        elif links := self._links(name) if kind == "simple" else "":
            self._send(links.encode(), "text/html")
        else:
            self.send_error(404)

    def _links(self, package: str) -> str:
        """Return the links of a package, whose name is written with dashes here."""
        names = [each for each in self.server.wheels if each.split("-")[0] == _escaped(package)]
        return "".join(f'<a href="/files/{each}">{each}</a>' for each in names)

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if self.path.startswith("/files/"):
            self.server.open.wait(60)
        self.wfile.write(content[half:])

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # a test has ended who asked
            super().handle()


@contextmanager
def running_index(*wheels: Path) -> Iterator[PackageIndex]:
    """Serve wheels while the block runs."""
    with PackageIndex(wheels) as index:
        thread = Thread(target=index.serve_forever)
        thread.start()
        try:
            yield index
        finally:
            index.open.set()
            index.shutdown()
            thread.join()


def write_wheel(
    folder: Path,
    name: str,
    version: str,
    members: Mapping[str, bytes],
    tags: str = "py3-none-any",
) -> Path:
    """Write a wheel, which installs anywhere by default, with these members; return its path."""
    about = f"{_escaped(name)}-{version}.dist-info"
    path = folder / f"{_escaped(name)}-{version}-{tags}.whl"
    with ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def wheel_facts(path: Path, folder: str) -> dict[str, object]:
    """Return what a catalogue says of a wheel whose model is in ``folder``."""
    content = path.read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "folder": folder,
    }


def _escaped(name: str) -> str:
    return name.replace("-", "_")
