"""Clients that post as fast as they are answered: what is left to the workers."""

import tempfile
import threading
import time
from pathlib import Path

from bench.cost.client import Client, short_recording
from bench.platform import Platform, platform

CLIENTS = 8
WARM_UP_S = 5.0
SECONDS = 30.0

_WORKERS = ("worker-cpu", "worker-oracle")


def run() -> None:
    """Print jobs accepted and jobs done a second, and who used the CPU time meanwhile."""
    with (
        tempfile.TemporaryDirectory() as folder,
        platform(Path(folder) / "data", "oracle") as running,
    ):
        stop_at = time.monotonic() + WARM_UP_S + SECONDS

        def post() -> None:
            with Client(running.url) as client:
                while time.monotonic() < stop_at:
                    client.post(short_recording(), cache="false")

        threads = [threading.Thread(target=post) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(WARM_UP_S)
        before, used_before = _jobs(running), running.cpu_s()
        time.sleep(max(0.0, stop_at - time.monotonic()))
        after, used_after = _jobs(running), running.cpu_s()
        for thread in threads:
            thread.join()
    accepted, done = ((late - early) / SECONDS for early, late in zip(before, after, strict=True))
    used = {name: used_after[name] - used_before[name] for name in used_before}
    total_s = sum(used.values())
    print(f"{CLIENTS} clients for {SECONDS:g} s: {accepted:.1f} accepted, {done:.1f} done a second")
    print(
        f"workers' share of the platform's CPU time: {sum(used[w] for w in _WORKERS) / total_s:.0%}"
    )
    for name, used_s in sorted(used.items(), key=lambda item: -item[1]):
        print(f"    {name:<16}{used_s / total_s:>5.0%}")


def _jobs(running: Platform) -> tuple[int, int]:
    """Return how many jobs were accepted so far, and how many have succeeded."""
    with running.database() as database:
        row = database.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'succeeded') FROM jobs"
        ).fetchone()
    assert row is not None
    return row[0], row[1]
