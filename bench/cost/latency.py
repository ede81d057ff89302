"""Jobs one after another on an idle platform: how long each takes, and its CPU time.

Platforms of several trees run at the same time and take turns, so that what else the machine does
meets all of them.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.cost.client import Client, short_recording
from bench.platform import Platform, platform

WARM_UP = 10
TURN = 10
"""Jobs of one platform before it is the next one's turn."""
IDLE_S = 20.0
SETTLE_S = 0.5
"""After each turn: what is done for a job after its end counts, too."""


@dataclass(slots=True)
class Latency:
    """What was measured of one tree."""

    seconds: list[float] = field(default_factory=list)
    """From the POST to the result seen by a client that waits for it (`wait`), job by job."""
    cpu_s: Counter[str] = field(default_factory=Counter)
    """User and system time a job, by service, less that of an idle platform."""

    def quantile_s(self, share: float) -> float:
        """Return the least latency that this share of the jobs does not exceed."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def measure(trees: Sequence[Path], n_jobs: int) -> list[Latency]:
    """Measure the trees' platforms side by side, ``n_jobs`` each."""
    results = [Latency() for _ in trees]
    with ExitStack() as opened:
        platforms = []
        for tree in trees:
            folder = opened.enter_context(tempfile.TemporaryDirectory())
            running = platform(Path(folder) / "data", "oracle", tree=tree)
            platforms.append(opened.enter_context(running))
        clients = [opened.enter_context(Client(running.url)) for running in platforms]
        for client in clients:
            for _ in range(WARM_UP):
                client.transcribe(short_recording())
        time.sleep(SETTLE_S)
        idle = _idle(platforms)
        for _ in range(n_jobs // TURN):
            for running, client, result, rates in zip(
                platforms, clients, results, idle, strict=True
            ):
                before, began = running.cpu_s(), time.monotonic()
                result.seconds += [client.transcribe(short_recording()) for _ in range(TURN)]
                time.sleep(SETTLE_S)
                used, elapsed_s = running.cpu_s(), time.monotonic() - began
                for service, total_s in used.items():
                    spent_s = total_s - before[service] - rates[service] * elapsed_s
                    result.cpu_s[service] += spent_s / n_jobs
    return results


def _idle(platforms: Sequence[Platform]) -> list[dict[str, float]]:
    """Return the CPU seconds per second of each service of each idle platform."""
    before, began = [running.cpu_s() for running in platforms], time.monotonic()
    time.sleep(IDLE_S)
    after, elapsed_s = [running.cpu_s() for running in platforms], time.monotonic() - began
    return [
        {service: (late[service] - early[service]) / elapsed_s for service in late}
        for early, late in zip(before, after, strict=True)
    ]
