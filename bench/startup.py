"""How long a warm ``longhand up`` takes to be ready: everything installed, the database made."""

import tempfile
from pathlib import Path

from bench.platform import ROOT, platform

RUNS = 5


def run() -> None:
    """Print each run's seconds; the first one makes the database and does not count."""
    cold_s, warm_s = measure(ROOT)
    print(f"first start (makes the database): {cold_s:.1f} s")
    print(f"warm start to ready: {' '.join(f'{s:.1f}' for s in sorted(warm_s))} s")


def measure(tree: Path) -> tuple[float, list[float]]:
    """Return the seconds of the first start of a tree's platform, and of the next ``RUNS``."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        starts_s = []
        for _ in range(1 + RUNS):
            with platform(data, "starter", tree=tree) as started:
                starts_s.append(started.ready_s)
    return starts_s[0], starts_s[1:]
