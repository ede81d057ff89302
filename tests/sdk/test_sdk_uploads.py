"""Large files by the SDK: they go on where they were cut off, and take no memory."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import longhand_sdk.jobs
import pytest
from longhand_sdk import Progress
from longhand_sdk.errors import ModelNotServed

from harness.clients.sdk import Connect

MIB = 1 << 20


class Store(ThreadingHTTPServer):
    """A server of one upload, which it throws away; connections break at the offsets asked for."""

    daemon_threads = True

    def __init__(self, breaks: tuple[int, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.breaks = list(breaks)
        self.offset = 0
        self.begun: list[int] = []
        """Where each PATCH began."""
        self.refuses_jobs = False
        self.deleted: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/uploads/tus":
            self._answer(201, Location="/uploads/tus/one")
        elif self.server.refuses_jobs:
            self._answer(409, b'{"code": "model_not_served", "detail": "no"}')
        else:
            assert json.loads(body) == {"upload_id": "one"}
            self._answer(202, b'{"id": "job", "state": "queued"}')

    def do_PATCH(self) -> None:
        self.server.begun.append(int(self.headers["Upload-Offset"]))
        left, piece = int(self.headers["Content-Length"]), bytearray(MIB)
        while left:
            n = self.rfile.readinto1(memoryview(piece)[: min(MIB, left)])
            left -= n
            self.server.offset += n
            if self.server.breaks and self.server.offset >= self.server.breaks[0]:
                self.server.offset = self.server.breaks.pop(0)
                self.close_connection = True
                self.connection.close()
                return
        self._answer(204)

    def do_DELETE(self) -> None:
        self.server.deleted.append(self.path)
        self._answer(204)

    def do_HEAD(self) -> None:
        self._answer(200, **{"Upload-Offset": str(self.server.offset)})

    def do_GET(self) -> None:
        self._answer(200, b'{"id": "one", "state": "complete"}')

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_upload_that_is_cut_off_goes_on_from_there_and_its_progress_never_falls(
    connect: Connect, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longhand_sdk.jobs, "RESUMABLE_BYTES", MIB)
    path = tmp_path / "talk.wav"
    path.write_bytes(bytes(8 * MIB))
    store.breaks = [3 * MIB, 6 * MIB + 1]
    told: list[Progress] = []

    job = connect(store.url, sleep=lambda _: None).jobs.submit(path, on_progress=told.append)

    assert job.id == "job"
    assert store.begun == [0, 3 * MIB, 6 * MIB + 1]
    sent = [each.sent_bytes for each in told]
    assert sent == sorted(set(sent))
    assert told[-1].percent == 100.0


def test_an_upload_whose_job_is_refused_is_deleted(
    connect: Connect, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longhand_sdk.jobs, "RESUMABLE_BYTES", 10)
    store.refuses_jobs = True
    with pytest.raises(ModelNotServed):
        connect(store.url).jobs.submit(bytes(100))
    assert store.deleted == ["/uploads/one"]


PROGRAM = """
import asyncio, re, sys
from pathlib import Path
from longhand_sdk import AsyncLonghand, Longhand

kind, url, path = sys.argv[1:]
percents = []

def memory(which):
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

def told(progress):
    percents.append(progress.percent)

async def submit(audio):
    async with AsyncLonghand(url) as client:
        await client.jobs.submit(audio, on_progress=told)

def run(audio):
    if kind == "asyncio":
        asyncio.run(submit(audio))
    else:
        with Longhand(url) as client:
            client.jobs.submit(audio, on_progress=told)

before = memory("VmRSS")
run(path)
assert percents == sorted(percents) and percents[-1] == 100.0, percents[-5:]
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_the_memory_of_an_upload_does_not_grow_with_the_file(
    store: Store, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(128 * MIB)
    program = [sys.executable, "-c", PROGRAM, kind, store.url, str(path)]
    done = subprocess.run(
        program,
        cwd=Path(__file__).parents[2] / "sdk",
        text=True,
        check=True,
        stdout=subprocess.PIPE,
    )
    assert store.offset == 128 * MIB
    assert int(done.stdout) < 50 * MIB
