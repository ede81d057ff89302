"""How long a 10-second job takes by itself, and beside long files that came before it."""

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from bench.audio import write_words
from bench.platform import ROOT, command, platform

SHORT_S = 10
ALONE = 20
"""Runs by itself."""
LONG_S = 8 * 3600
BESIDE = (1, 3)
"""How many long files at once: one, and more than a CPU worker has children on two cores."""
POLL_S = 0.02


def run() -> None:
    """Print the delays of the short job: alone, beside one long file, beside several."""
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.wav", Path(folder) / "long.wav"
        write_words(short, SHORT_S)
        with (
            platform(Path(folder) / "data", "oracle") as running,
            httpx.Client(base_url=running.url, timeout=60) as client,
        ):
            print(f"{'a job of 10 s, seconds to its end':<44}{'runs':>6}{'p50':>8}{'max':>8}")
            transcribe(client, short)  # what is loaded late is loaded now
            show("alone", [transcribe(client, short) for _ in range(ALONE)])
            write_words(long, LONG_S)
            for files in BESIDE:
                began = time.monotonic()
                started = [
                    subprocess.Popen(
                        command(
                            *("transcribe", str(long), "--server", running.url, "--no-cache"),
                        ),
                        cwd=ROOT,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                    for _ in range(files)
                ]
                show(f"beside {files} of 8 h", until(client, short, started))
                print(f"{'':<4}the long ones took {time.monotonic() - began:.0f} s", flush=True)


def until(
    client: httpx.Client, short: Path, started: Sequence[subprocess.Popen[bytes]]
) -> list[float]:
    """Transcribe the short file again and again until the long ones have ended."""
    newest = {"limit": len(started)}
    wait_for(
        lambda: all(
            job["state"] in ("queued", "running") and job["source"]["bytes"] > 10**8
            for job in client.get("/jobs", params=newest).json()["jobs"]
        )
    )
    delays = []
    while any(process.poll() is None for process in started):
        delays.append(transcribe(client, short))
    if any(process.returncode for process in started):
        raise SystemExit("bench: a long file failed")
    return delays


def transcribe(client: httpx.Client, audio: Path) -> float:
    """Return the seconds from sending a file to seeing that its job has succeeded."""
    began = time.monotonic()
    with audio.open("rb") as file:
        job = client.post("/jobs", data={"cache": "false"}, files={"file": file})
    url = job.raise_for_status().headers["location"]
    wait_for(lambda: client.get(url).json()["state"] == "succeeded")
    return time.monotonic() - began


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds."""
    while not condition():
        time.sleep(POLL_S)


def show(what: str, delays_s: Sequence[float]) -> None:
    """Print one line of the table."""
    middle, longest = statistics.median(delays_s), max(delays_s)
    print(f"{what:<44}{len(delays_s):>6}{middle:>8.2f}{longest:>8.2f}", flush=True)
