"""How many items a call should have, measured when a model is loaded and remembered on the machine.

What a batch gains depends on the network, the caches and the library: beams of eight windows may
run faster than one, or slower. So the sizes that an engine names are tried, within about two
seconds.

Processor time is measured, since other work on the machine does not add to it, and a larger batch
must gain clearly. A measurement that went wrong still gives one of the engine's sizes, and is
repeated after a month.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from worker.engines.processors import n_processors
from worker.engines.protocol import Engine

BUDGET_S = 2.0
"""Processor time after which no further size is tried."""
MIN_GAIN = 0.9
"""A larger batch is taken if an item costs at most this share of what it costs in a smaller one:
the next chunk waits longer for it to end."""
KEEP_S = 30 * 86_400.0
"""How long a measurement counts."""


def tune(
    engine: Engine,
    remembered: "Remembered",
    *,
    beam_size: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> int:
    """Return how many items of full length a call should have.

    It is the engine's own ``max_batch`` where the engine names no sizes, or where two of them
    cannot be compared within the budget. ``beam_size`` is the one that the engine rehearses with.
    """
    if not engine.batch_sizes:
        return engine.max_batch
    machine = f"{platform.node()} {n_processors()}"
    computed = f"{engine.version} {engine.dtype} beam {beam_size}"
    key = f"{engine.weights_digest} {computed} {machine}"
    size = remembered.size(key)
    if size is None or size not in engine.batch_sizes:
        costs = _measure(engine, clock)
        size = _cheapest(costs) if len(costs) > 1 else engine.max_batch
        remembered.note(key, size)
    return size


def _measure(engine: Engine, clock: Callable[[], float]) -> dict[int, float]:
    """Return the seconds that an item takes by the size of its batch, as far as there is time."""
    rehearse = engine.rehearsal()
    begun = clock()
    costs: dict[int, float] = {}
    rehearse(min(engine.batch_sizes))  # what is set up at first does not count
    for size in sorted(engine.batch_sizes):
        before = clock()
        if before - begun > BUDGET_S:
            break
        rehearse(size)
        costs[size] = (clock() - before) / size
    return costs


def _cheapest(costs: Mapping[int, float]) -> int:
    best, *larger = sorted(costs)
    for size in larger:
        if costs[size] <= MIN_GAIN * costs[best]:
            best = size
    return best


class Remembered:
    """Sizes that were measured on this machine, in a file; without one nothing is remembered."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        """The file is made when there is something to remember."""
        self._path, self._now = path, now

    def size(self, key: str) -> int | None:
        """Return the size that was measured, unless that is too long ago."""
        entry = self._read().get(key)
        if not isinstance(entry, list) or self._now() - entry[1] > KEEP_S:
            return None
        return int(entry[0])

    def note(self, key: str, size: int) -> None:
        """Remember a size, if the file can be written."""
        entries = self._read() | {key: [size, self._now()]}
        partial = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(entries), encoding="utf-8")
            partial.replace(self._path)
        except OSError:
            with suppress(OSError):
                partial.unlink()

    def _read(self) -> dict[str, object]:
        try:
            entries = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def remembered_here() -> Remembered:
    """Return what is remembered in the user's cache: ``longhand/batches.json``."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Remembered(Path(cache) / "longhand" / "batches.json")
