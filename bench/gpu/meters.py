"""Ceilings to compare measurements with, and the meters that take them."""

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from worker.engines.protocol import Engine, Prepared

GB = 1e9


def synchronize(device: str) -> None:
    """Wait until the device has finished its queued work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def matmul_flops(device: str, dtype: Any, size: int) -> float:
    """Return the operations per second of a product of square random matrices: the ceiling."""
    import torch

    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronize(device)
    return 10 * 2 * size**3 / (time.perf_counter() - begun)


def copy_bytes(device: str, n_bytes: int) -> float:
    """Return the bytes per second, read and written, of a copy within the device's memory."""
    import torch

    source = torch.randint(0, 255, (n_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(10):
        target.copy_(source)
    synchronize(device)
    return 10 * 2 * n_bytes / (time.perf_counter() - begun)


class Busy:
    """The share of time in which the device ran any kernel, as its driver tells."""

    def __init__(self, device: str) -> None:
        self._read = _reader() if device == "cuda" else None
        self._seen: list[float] = []
        self._over = threading.Event()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Look ten times a second while the block runs."""
        if self._read is None:
            yield
            return
        self._seen.clear()
        self._over.clear()
        thread = threading.Thread(target=self._look, args=(self._read,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    @property
    def percent(self) -> float | None:
        """The mean of what was last watched; None where nobody tells."""
        return sum(self._seen) / len(self._seen) if self._seen else None

    def _look(self, read: Callable[[], float]) -> None:
        while not self._over.wait(0.1):
            self._seen.append(read())


def _reader() -> Callable[[], float] | None:
    """Return a way to ask for the utilisation in percent: NVML, else nvidia-smi."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetUtilizationRates(handle)
    except Exception:  # noqa: BLE001 - whatever it lacks, the other way may work
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]

        def ask() -> float:
            return float(subprocess.run(query, capture_output=True, check=True).stdout.split()[0])

        try:
            ask()
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return None
        return ask
    return lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)


class Watched:
    """An engine whose calls are noted: when each began and ended, and how many items it had."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.calls: list[tuple[float, float, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        """As the engine's own."""
        begun = time.perf_counter()
        try:
            return self._engine.infer(batch)
        finally:
            self.calls.append((begun, time.perf_counter(), len(batch)))


@contextmanager
def stages(engine: Any, names: Sequence[str], device: str) -> Iterator[dict[str, float]]:
    """Add up the seconds that an engine's own methods take while the block runs.

    The device is waited for around each: overlaps are lost, so that the sum is an upper bound.
    """
    spent: dict[str, float] = defaultdict(float)
    originals = {name: getattr(engine, name) for name in names if hasattr(engine, name)}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            synchronize(device)
            begun = time.perf_counter()
            result = call(*args, **kwargs)
            synchronize(device)
            spent[name] += time.perf_counter() - begun
            return result

        return wrapper

    for name, call in originals.items():
        setattr(engine, name, timed(name, call))
    try:
        yield spent
    finally:
        for name, call in originals.items():
            setattr(engine, name, call)
