"""Device memory running short: the largest batch that fits, and how larger ones are handled."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from bench.gpu import meters, shapes
from bench.gpu.cells import (
    FILL_MS,
    GREEDY,
    Bench,
    Row,
    free_memory,
    held_bytes,
    peak_bytes,
    peak_gb,
    reset_peak,
)
from shared.infra.errors import DeviceOutOfMemory
from worker.batching.batcher import Batcher
from worker.engines.protocol import Prepared
from worker.engines.torch_models import torch_failures
from worker.engines.whisper.vocabulary import MAX_ANSWER_TOKENS


def squeeze(bench: Bench, engine: Any) -> Row:
    """Take most of the memory away and give it back: no item is lost, and batches grow again."""
    full = 2 if bench.dry else 32
    items = shapes.windows(full, 30.0)
    reset_peak(bench)
    before = held_bytes(bench)
    engine.transcribe(items, GREEDY)
    squeezed = _Squeezed(bench, engine, room_bytes=round((peak_bytes(bench) - before) / 3))
    batcher = Batcher(squeezed, max_batch=full, max_wait_ms=FILL_MS)
    squeezed.hold()
    futures = [batcher.submit(item, GREEDY) for item in 2 * items]
    heard = [future.result() for future in futures]
    short = [inference.batch_size for inference in heard]
    squeezed.release()
    n_more = 0
    while n_more < 20 and heard[-1].batch_size < full:
        heard += [f.result() for f in [batcher.submit(item, GREEDY) for item in items]]
        n_more += 1
    batcher.close()
    submitted = (2 + n_more) * full
    return {
        "case": "memory taken away and given back",
        "batch": heard[-1].batch_size,
        "note": f"{full} at once, then {min(short)}, then {heard[-1].batch_size} again after "
        f"{len(squeezed.calls)} calls; {submitted - len(heard)} of {submitted} items lost",
        "calls": squeezed.calls,
    }


class _Squeezed:
    """An engine beside which something else takes up the device's memory.

    On a GPU that is a tensor. On a processor it is pretended: more than one item do not fit.
    """

    def __init__(self, bench: Bench, engine: Any, room_bytes: int) -> None:
        self._engine, self._bench, self._room_bytes = engine, bench, room_bytes
        self._held: Any = None
        self.calls: list[tuple[int, bool]] = []
        """Items of each call, and whether they fitted."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def hold(self) -> None:
        """Take up all but the room."""
        if self._bench.device != "cuda":
            self._held = True
            return
        import torch

        free_memory(self._bench)
        free, _ = torch.cuda.mem_get_info()
        n_bytes = max(1, free - self._room_bytes)
        self._held = torch.empty(n_bytes, dtype=torch.uint8, device="cuda")

    def release(self) -> None:
        """Give it back."""
        self._held = None
        free_memory(self._bench)

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        """As the engine's own."""
        fits = False
        try:
            if self._held is True and len(batch) > 1:
                raise DeviceOutOfMemory("held")
            results: list[Any] = self._engine.infer(batch)
            fits = True
        finally:
            self.calls.append((len(batch), fits))
        return results


def find_what_fits(bench: Bench, engine: Any) -> Iterator[Row]:
    """Decode ever larger batches to the longest answer there is, until one does not fit."""
    predicted = engine.max_batch
    size, fits, fails = predicted, 0, None
    for _ in range(5):
        begun = time.perf_counter()
        try:
            _decode_longest(bench, engine, size)
        except DeviceOutOfMemory:
            fails = size
        else:
            fits = max(fits, size)
        yield {
            "case": "longest answers",
            "batch": size,
            "memory_gb": peak_gb(bench),
            "note": "does not fit" if fails == size else f"{time.perf_counter() - begun:.1f} s",
        }
        if bench.dry or (fails and fits):
            break
        size = round(size * (0.8 if fails else 1.25))
    note = f"the engine takes {predicted} to fit; {fits} did, {fails or 'no size tried'} did not"
    yield {"case": "largest batch", "batch": fits, "note": note}


def _decode_longest(bench: Bench, engine: Any, n_items: int) -> None:
    import torch

    reset_peak(bench)
    search = {"num_beams": 1, "min_new_tokens": 8 if bench.dry else MAX_ANSWER_TOKENS}
    items = shapes.windows(n_items, 30.0)
    with torch_failures(bench.device, engine.version), torch.inference_mode():
        encoded = engine._encode([engine._features_of(item) for item in items])
        given = torch.full((n_items, 1), engine._vocabulary.start, device=bench.device)
        engine._generate(encoded, given, [], **search)
    meters.synchronize(bench.device)
