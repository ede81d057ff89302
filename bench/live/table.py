"""Latencies of live sessions on a whole platform, with a model worker that sleeps or a real one.

The clients are in five processes of their own, and send at real time.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from bench.live.talkers import PAUSE_S, PHRASE_S, Plan
from bench.platform import ROOT, Platform, platform
from worker.media.decode import decode

CALL_MS, MAX_BATCH = 100, 32
TALKERS = (1, 2, 4, 8, 16, 32, 64)
"""Who speak at once to a real model, until it is late or refuses somebody."""
LATE_S = 1.0
"""Half of the finals after a flush come later. On a busy machine a few always do."""
SECONDS = 30
_PROCESSES = 5
_LIMIT_S = 60.0
_SETTLE_S = 2.0
"""Until the API has heard that the worker takes live requests."""


def run() -> None:
    """Print the latencies with endpoints, with flushes, and beside many silent sessions."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"LONGHAND_LIVE_MAX_SESSIONS": "400"}
        with (
            # Its own worker serves another model.
            platform(Path(folder) / "data", "starter", environment=environment) as running,
            _sleeping_worker(running),
        ):
            print(f"{CALL_MS} ms a call, batches of {MAX_BATCH}")
            noise = partial(_plan, running, "oracle")
            _measure(running, noise(50, 50, frame_ms=20, flushes=False))
            _measure(running, noise(50, 50, frame_ms=20, flushes=True))
            _measure(running, noise(200, 20, frame_ms=100, flushes=False))


@dataclass(frozen=True, slots=True)
class Cost:
    """What talkers took while a platform heard them."""

    n_talkers: int
    cores: float
    """Of the model worker."""
    partials: float
    """In a second of a talker's speech."""
    final_s: tuple[float, float]
    """From its end to the final, at p50 and p95; infinite where there were none."""

    errors: list[str]
    """What clients were told, refusals among it."""

    @property
    def is_too_much(self) -> bool:
        """Whether more talk than fit."""
        return bool(self.errors) or self.final_s[0] > LATE_S


def run_real(catalogue: Path, model_ids: Sequence[str], audio: Path) -> None:
    """Print the latencies of people who say what a recording says, with real models.

    Each model has a platform of its own; they are measured in turn, as ever more people talk, until
    they are late or refuse somebody. Then what a talker costs each model is printed.
    """
    environment = {"LONGHAND_CATALOGUE": str(catalogue.resolve())}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pcm = Path(folder) / "speech.pcm"
        with audio.open("rb") as file:
            pcm.write_bytes(b"".join(block.tobytes() for (block,) in decode(file, 3600)))
        platforms = {
            model_id: stack.enter_context(
                platform(Path(folder) / model_id, model_id, environment=environment)
            )
            for model_id in model_ids
        }
        costs: dict[str, list[Cost]] = {model_id: [] for model_id in model_ids}
        for n_talkers in TALKERS:
            for model_id, running in platforms.items():
                if any(cost.is_too_much for cost in costs[model_id]):
                    continue
                print(f"\n{model_id}, {audio.name}", end="")
                plan = _plan(running, model_id, n_talkers, n_talkers, frame_ms=20, flushes=True)
                costs[model_id].append(_measure(running, replace(plan, pcm=str(pcm))))
        _print_costs(costs)


def _print_costs(costs: dict[str, list[Cost]]) -> None:
    """Print what a talker takes of the model worker, and what he gets, by how many talk."""
    print(f"\n{'':<24}{'talk':>5}{'cores of a talker':>19}", end="")
    print(f"{'partials/s':>12}{'final p50, p95, ms':>20}")
    for model_id, measured in costs.items():
        for cost in measured:
            final_ms = ", ".join(f"{1000 * seconds:.0f}" for seconds in cost.final_s)
            print(
                f"{model_id:<24}{cost.n_talkers:>5}{cost.cores / cost.n_talkers:>19.3f}"
                f"{cost.partials:>12.2f}{final_ms:>20}{'  too many' if cost.is_too_much else ''}"
            )


def _plan(
    running: Platform, model_id: str, sessions: int, talkers: int, *, frame_ms: int, flushes: bool
) -> Plan:
    url = running.url.replace("http", "ws", 1) + "/ws/stt"
    return Plan(url, model_id, sessions, talkers, SECONDS, frame_ms, flushes)


def _measure(running: Platform, plan: Plan) -> Cost:
    ends = ", flushes" if plan.flushes else ""
    print(f"\n{plan.n_sessions} sessions, {plan.n_talkers} talk, {plan.frame_ms} ms frames{ends}")
    n_processes = min(_PROCESSES, plan.n_talkers)
    before_bytes = most_bytes = _resident_bytes(running)
    used_s, began = running.cpu_s(), time.monotonic()
    processes = [_start(part) for part in _parts(plan, n_processes)]
    while any(process.poll() is None for process in processes):
        most_bytes = max(most_bytes, _resident_bytes(running))
        time.sleep(0.5)
    elapsed_s = time.monotonic() - began
    cores = {name: (now - used_s[name]) / elapsed_s for name, now in running.cpu_s().items()}
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    errors: list[str] = []
    n_partials = 0
    for process in processes:
        told = json.loads(process.communicate()[0])
        errors += told["errors"]
        n_partials += told["n_partials"]
        for name, values in told["seconds"].items():
            seconds[name] += values
    for name, values in seconds.items():
        after = " after a flush" if plan.flushes and name == "final" else ""
        p50, p95, p99 = (1000 * np.percentile(values, share) for share in (50, 95, 99))
        shares = f"p50 {p50:4.0f}  p95 {p95:4.0f}  p99 {p99:4.0f} ms"
        print(f"{name + after:24} n {len(values):5}  {shares}")
    grown = (most_bytes - before_bytes) / plan.n_sessions / 2**20
    known = sorted(set(errors)) or "none"
    print(
        f"{'API process':24} {cores['api']:.2f} cores, {grown:.2f} MiB a session; errors: {known}"
    )
    worker = f"worker-{plan.model}"  # the sleeping one is none of the platform's services
    if worker in cores:
        print(f"{'model worker':24} {cores[worker]:.2f} cores")
    finals = seconds["final"] or [float("inf")]
    return Cost(
        n_talkers=plan.n_talkers,
        cores=cores.get(worker, 0.0),
        partials=n_partials / (plan.n_talkers * plan.seconds * PHRASE_S / (PHRASE_S + PAUSE_S)),
        final_s=(float(np.percentile(finals, 50)), float(np.percentile(finals, 95))),
        errors=errors,
    )


def _parts(plan: Plan, n_parts: int) -> Iterator[Plan]:
    """Divide the sessions of a plan evenly."""
    for number in range(n_parts):
        n_sessions = len(range(number, plan.n_sessions, n_parts))
        n_talkers = len(range(number, plan.n_talkers, n_parts))
        yield replace(plan, n_sessions=n_sessions, n_talkers=n_talkers)


def _start(plan: Plan) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.live.talkers", json.dumps(asdict(plan))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def _resident_bytes(running: Platform) -> int:
    return int(running.services["api"].memory_info().rss)


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
