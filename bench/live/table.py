"""Latencies of live sessions on a whole platform, whose model worker sleeps for each call.

The talkers are in processes of their own, ten in each, and send at real time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from bench.platform import ROOT, Platform, platform

CALL_MS, MAX_BATCH = 100, 32
TALKERS = 50
SECONDS = 30.0
_PER_PROCESS = 10
_LIMIT_S = 60.0
_SETTLE_S = 2.0
"""Until the API has heard that the worker takes live requests."""


def run() -> None:
    """Print the latencies with endpoints and with flushes, and what the API process used."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"LONGHAND_LIVE_MAX_SESSIONS": "400"}
        with (
            # Its own worker serves another model.
            platform(Path(folder) / "data", "starter", environment=environment) as running,
            _sleeping_worker(running),
        ):
            print(f"{CALL_MS} ms a call, batches of {MAX_BATCH}, {TALKERS} talkers, 20 ms frames")
            for flushes in (False, True):
                _measure(running, flushes=flushes)


def _measure(running: Platform, *, flushes: bool) -> None:
    used_s, began = running.cpu_s()["api"], time.monotonic()
    url = running.url.replace("http", "ws", 1) + "/ws/stt"
    arguments = [url, str(_PER_PROCESS), str(SECONDS), "20", str(int(flushes))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.live.talkers", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(TALKERS // _PER_PROCESS)
    ]
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    for process in processes:
        told = json.loads(process.communicate()[0])
        errors += told["errors"]
        for name, values in told["seconds"].items():
            seconds[name] += values
    cores = (running.cpu_s()["api"] - used_s) / (time.monotonic() - began)
    for name, values in seconds.items():
        after = " after a flush" if flushes and name == "final" else ""
        p50, p95, p99 = (1000 * np.percentile(values, share) for share in (50, 95, 99))
        shares = f"p50 {p50:4.0f}  p95 {p95:4.0f}  p99 {p99:4.0f} ms"
        print(f"{name + after:24} n {len(values):5}  {shares}")
    print(f"{'API process':24} {cores:.2f} cores; errors: {sorted(set(errors)) or 'none'}")


@contextmanager
def _sleeping_worker(running: Platform) -> Iterator[None]:
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.live.sleeping_worker", str(CALL_MS), str(MAX_BATCH)),
            *("model", "--model", "oracle"),
        ],
        cwd=ROOT,
        env={**os.environ, **running.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        limit = time.monotonic() + _LIMIT_S
        while not _is_served(running):
            if worker.poll() is not None or time.monotonic() > limit:
                sys.exit("bench: the sleeping worker did not become ready")
            time.sleep(0.2)
        time.sleep(_SETTLE_S)
        yield
    finally:
        worker.terminate()
        worker.wait(_LIMIT_S)


def _is_served(running: Platform) -> bool:
    models = httpx.get(f"{running.url}/health/status", timeout=10).json()["models"]
    return bool(models.get("oracle") == "ready")
