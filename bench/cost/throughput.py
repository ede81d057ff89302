"""Jobs a second that a platform keeps up, from clients that each have one job under way."""

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.cost.client import Client, short_recording
from bench.platform import platform

WARM_UP_S = 5.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured of one tree."""

    jobs_per_s: float
    first_quarter_s: float
    """Median latency in the first quarter of the time, and in the last: it must not grow."""
    last_quarter_s: float
    cpu_s: float
    """User and system time of the whole platform, a job."""


def measure(tree: Path, n_clients: int, seconds: float) -> Throughput:
    """Load a platform of ``tree`` for some seconds, after a few that do not count."""
    ends: list[tuple[float, float]] = []
    """When each job's result was seen, and its latency."""
    with (
        tempfile.TemporaryDirectory() as folder,
        platform(Path(folder) / "data", "oracle", tree=tree) as running,
    ):
        stop_at = time.monotonic() + WARM_UP_S + seconds

        def send() -> None:
            with Client(running.url) as client:
                while time.monotonic() < stop_at:
                    latency_s = client.transcribe(short_recording())
                    ends.append((time.monotonic(), latency_s))

        threads = [threading.Thread(target=send) for _ in range(n_clients)]
        for thread in threads:
            thread.start()
        time.sleep(WARM_UP_S)
        before = sum(running.cpu_s().values())
        time.sleep(max(0.0, stop_at - time.monotonic()))
        used_s = sum(running.cpu_s().values()) - before
        for thread in threads:
            thread.join()
    counted = [(at, took) for at, took in ends if stop_at - seconds < at <= stop_at]
    quarter_s = seconds / 4
    return Throughput(
        jobs_per_s=len(counted) / seconds,
        first_quarter_s=median(s for at, s in counted if at <= stop_at - 3 * quarter_s),
        last_quarter_s=median(s for at, s in counted if at > stop_at - quarter_s),
        cpu_s=used_s / len(counted),
    )
