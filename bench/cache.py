"""How long a job takes that was transcribed before, against the first of its kind."""

import statistics
import tempfile
import time
from pathlib import Path

import httpx

from bench.audio import write_words
from bench.platform import platform

AUDIO_S = 60
HITS = 30
POLL_S = 0.01


def run() -> None:
    """Print the first job's seconds until its transcript, and the median of its repetitions'."""
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "words.wav"
        write_words(audio, AUDIO_S)
        data = audio.read_bytes()
        with (
            platform(Path(folder) / "data", "oracle") as running,
            httpx.Client(base_url=running.url, timeout=60) as client,
        ):
            first_s = _transcribe(client, data)
            hits_s = [_transcribe(client, data) for _ in range(HITS)]
            counted = client.get("/accuracy/stats").json()["cache"]["cached"]
    print(
        f"{AUDIO_S} s of audio, {len(data) / 1e6:.1f} MB: first {1000 * first_s:.0f} ms; "
        f"{counted} hits: median {1000 * statistics.median(hits_s):.0f} ms, "
        f"longest {1000 * max(hits_s):.0f} ms, upload and transcript included"
    )


def _transcribe(client: httpx.Client, data: bytes) -> float:
    """Return the seconds from the upload's first byte to the transcript's last."""
    begun = time.perf_counter()
    job = client.post("/jobs", files={"file": ("words.wav", data)}).raise_for_status().json()
    while job["state"] in ("queued", "running"):
        time.sleep(POLL_S)
        job = client.get(f"/jobs/{job['id']}").raise_for_status().json()
    client.get(job["links"]["transcript"]).raise_for_status()
    return time.perf_counter() - begun
