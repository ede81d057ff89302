"""One file through a whole platform: how long it took, and which service used the processor."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.platform import platform


@dataclass(frozen=True, slots=True)
class Whole:
    """A file's way from the POST to the transcript."""

    wall_s: float
    cpu_s: dict[str, float]
    """By service, less what it had used before."""
    n_words: int

    @property
    def took(self) -> dict[str, float]:
        """As ``sides.py`` says it."""
        return {
            "wall_s": self.wall_s,
            "cpu_s": sum(self.cpu_s.values()),
            "n_words": self.n_words,
        }


def transcribe_file(catalogue: Path, model_id: str, audio: Path) -> Whole:
    """Start a platform, send a file, and wait for its end.

    Raises:
        SystemExit: the job did not succeed.
    """
    environment = {"LONGHAND_CATALOGUE": str(catalogue.resolve())}
    with (
        tempfile.TemporaryDirectory() as data,
        platform(Path(data) / "data", model_id, environment=environment) as running,
        httpx.Client(base_url=running.url, timeout=120) as client,
    ):
        before, begun = running.cpu_s(), time.perf_counter()
        with audio.open("rb") as file:
            form = {"model": model_id, "language": "en", "cache": "false"}
            answer = client.post("/jobs", data=form, files={"file": (audio.name, file)})
        job = answer.raise_for_status().json()
        while job["state"] in ("queued", "running"):
            job = client.get(f"/jobs/{job['id']}", params={"wait": 30}).raise_for_status().json()
        wall_s = time.perf_counter() - begun
        used = {name: seconds - before.get(name, 0.0) for name, seconds in running.cpu_s().items()}
        if job["state"] != "succeeded":
            raise SystemExit(f"bench: the job ended as {job['state']}: {job['error']}")
        return Whole(wall_s, used, len(job["transcript"]["text"].split()))
