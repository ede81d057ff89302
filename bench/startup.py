"""What ``longhand up`` takes until it is ready: time, and processor time of all its processes.

The first start of a data directory makes the database. The others are warm.
"""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.platform import ROOT, platform

RUNS = 5


@dataclass(frozen=True, slots=True)
class Start:
    """What one start took."""

    ready_s: float
    cpu_s: float
    """Of the command and all its processes, those that have ended included."""


def run(before: Path | None) -> None:
    """Print each tree's first start and the medians of its warm ones; the trees take turns."""
    trees = {"before": before, "now": ROOT} if before else {"now": ROOT}
    starts: dict[str, list[Start]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + RUNS):
            for name, tree in trees.items():
                starts[name].append(start(tree, Path(folder) / name))
    print(f"{'':<8}{'first start':>20}{'warm start, median':>22}")
    for name, (first, *warm) in starts.items():
        ready_s = statistics.median(each.ready_s for each in warm)
        cpu_s = statistics.median(each.cpu_s for each in warm)
        print(
            f"{name:<8}{first.ready_s:>7.1f} s, CPU {first.cpu_s:>4.1f} s"
            f"{ready_s:>9.1f} s, CPU {cpu_s:>4.1f} s"
        )


def measure(tree: Path) -> tuple[float, list[float]]:
    """Return the seconds of the first start of a tree's platform, and of the next ``RUNS``."""
    with tempfile.TemporaryDirectory() as folder:
        first, *warm = [start(tree, Path(folder) / "data") for _ in range(1 + RUNS)]
    return first.ready_s, [each.ready_s for each in warm]


def start(tree: Path, data: Path) -> Start:
    """Start a tree's platform, and stop it once it is ready."""
    with platform(data, "starter", tree=tree) as started:
        ended = started.supervisor.cpu_times()
        cpu_s = sum(started.cpu_s().values()) + ended.children_user + ended.children_system
        return Start(started.ready_s, float(cpu_s))
