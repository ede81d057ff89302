"""Files through a whole server, as a client sees it: Longhand's platform, or a peer's server."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.platform import ROOT, platform

_PEER = Path(__file__).with_name("peer_server.py")
_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What files sent at the same time took, from the first request to the last answer."""

    wall_s: float
    cpu_s: dict[str, float]
    """Of the server's processes while it lasted, by service."""
    n_words: int

    @property
    def took(self) -> dict[str, float]:
        """As ``sides.py`` says it."""
        return {
            "wall_s": self.wall_s,
            "cpu_s": sum(self.cpu_s.values()),
            "n_words": self.n_words,
        }


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is up, with its model loaded."""

    cpu_s: Callable[[], dict[str, float]]
    """Seconds of user and system time so far, by service."""
    transcribe: Callable[[httpx.AsyncClient, Path], Awaitable[int]]
    """Sends a file and waits for its words; returns how many there are."""

    def send(self, files: Sequence[Path]) -> Sent:
        """Send files, all at the same time, and wait for all answers."""
        before, begun = self.cpu_s(), time.perf_counter()
        n_words = asyncio.run(self._send(files))
        wall_s, after = time.perf_counter() - begun, self.cpu_s()
        used = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
        return Sent(wall_s, used, n_words)

    async def _send(self, files: Sequence[Path]) -> int:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits) as client:
            return sum(await asyncio.gather(*(self.transcribe(client, file) for file in files)))


@contextmanager
def longhand(catalogue: Path, model_id: str) -> Iterator[Server]:
    """Run a whole platform, all of whose processes count."""
    environment = {"LONGHAND_CATALOGUE": str(catalogue.resolve())}

    async def transcribe(client: httpx.AsyncClient, file: Path) -> int:
        form = {"model": model_id, "language": "en", "cache": "false"}
        sent = await client.post(
            f"{url}/jobs", data=form, files={"file": (file.name, file.read_bytes())}
        )
        job = sent.raise_for_status().json()
        while job["state"] in ("queued", "running"):
            wanted = {"wait": 30, "include": "words"}
            answer = await client.get(f"{url}/jobs/{job['id']}", params=wanted)
            job = answer.raise_for_status().json()
        if job["state"] != "succeeded":
            raise SystemExit(f"bench: the job ended as {job['state']}: {job['error']}")
        return sum(len(segment["words"]) for segment in job["transcript"]["segments"])

    with (
        tempfile.TemporaryDirectory() as data,
        platform(Path(data) / "data", model_id, environment=environment) as running,
    ):
        url = running.url
        yield Server(running.cpu_s, transcribe)


@contextmanager
def peer(model_folder: Path) -> Iterator[Server]:
    """Run ``peer_server.py`` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-P", str(_PEER), str(model_folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    usage = psutil.Process(process.pid)

    def cpu_s() -> dict[str, float]:
        times = usage.cpu_times()
        return {"server": times.user + times.system}

    async def transcribe(client: httpx.AsyncClient, file: Path) -> int:
        form = {"file": (file.name, file.read_bytes())}
        answer = await client.post(url, files=form)
        return len(answer.raise_for_status().json()["words"])

    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("bench: the peer's server did not start")
        yield Server(cpu_s, transcribe)
    finally:
        process.terminate()
        process.wait()
