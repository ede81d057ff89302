"""How long a warm ``longhand up`` takes to be ready: everything installed, the database made."""

import tempfile
from pathlib import Path

from bench.platform import platform

RUNS = 5


def run() -> None:
    """Print each run's seconds; the first one makes the database and does not count."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with platform(data, "starter") as cold:
            print(f"first start (makes the database): {cold.ready_s:.1f} s")
        warm = []
        for _ in range(RUNS):
            with platform(data, "starter") as started:
                warm.append(started.ready_s)
    print(f"warm start to ready: {' '.join(f'{s:.1f}' for s in sorted(warm))} s")
