"""Many threads at one batcher, as in a worker, and where the time goes then."""

import cProfile
import io
import pstats
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import numpy as np

from bench.gpu import meters, shapes
from bench.gpu.cells import GREEDY, Bench, Row, peak_gb
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.batching.batcher import Batcher
from worker.batching.items import Inference


def feed_by_threads(bench: Bench, engine: Any) -> Iterator[Row]:
    """Feed the batcher by 64 threads with items of all lengths; then profile a call."""
    watched, profile = meters.Watched(engine), cProfile.Profile()
    items = [
        window[: round(seconds * SAMPLE_RATE)]
        for window, seconds in zip(
            shapes.windows(64, 30.0),
            np.random.default_rng(0).uniform(1.0, 30.0, 64),
            strict=True,
        )
    ]
    if bench.dry:
        items = items[:8]
    engine.transcribe(items[: engine.max_batch], GREEDY)
    busy = meters.Busy(bench.device)
    batcher = Batcher(watched)
    begun = time.perf_counter()
    with busy.watch():
        inferences = _feed(batcher, items, 1.0 if bench.dry else 12.0)
    wall_s = time.perf_counter() - begun
    batcher.close()
    calls = watched.calls
    gaps_ms = [1000 * (after[0] - before[1]) for before, after in pairwise(calls)]
    waits_s = [inference.batch_wait_s for inference, _ in inferences]
    sizes = [size for _, _, size in calls]
    yield {
        "case": f"{len(items)} threads, 1 to 30 s, word times",
        "batch": float(np.mean(sizes)),
        "rtfx": sum(n for _, n in inferences) / SAMPLE_RATE / wall_s,
        "busy_percent": busy.percent,
        "memory_gb": peak_gb(bench),
        "note": f"wait {np.median(waits_s):.2f} s (median), {np.max(waits_s):.2f} s at most; "
        f"in the engine {100 * sum(end - at for at, end, _ in calls) / wall_s:.0f} % of the time; "
        f"{np.median(gaps_ms or [0]):.1f} ms between two calls (median)",
        "batches": sizes,
    }
    batch = items[: engine.max_batch]
    profile.runcall(engine.transcribe, batch, GREEDY)
    yield {"case": "top ten in Python", "note": "the rest is in the JSON", "top": _python(profile)}
    yield from _torch_profile(bench, engine, batch)


def _feed(
    batcher: Batcher, items: Sequence[Samples], duration_s: float
) -> list[tuple[Inference, int]]:
    """Have each item's thread submit it again and again; return what came back, and of how long."""
    until = time.perf_counter() + duration_s
    results: list[list[tuple[Inference, int]]] = [[] for _ in items]

    def feed(mine: Samples, seen: list[tuple[Inference, int]]) -> None:
        while time.perf_counter() < until:
            future: Future[Inference] = batcher.submit(mine, GREEDY)
            seen.append((future.result(), len(mine)))

    threads = [
        threading.Thread(target=feed, args=(item, seen))
        for item, seen in zip(items, results, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [pair for seen in results for pair in seen]


def _python(profile: cProfile.Profile) -> list[str]:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(10)
    return [line.strip() for line in text.getvalue().splitlines() if line.strip()][-11:]


def _torch_profile(bench: Bench, engine: Any, batch: Sequence[Samples]) -> Iterator[Row]:
    """Profile one call: what the processor spends its time on, and how long kernels ran."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if bench.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    begun = time.perf_counter()
    with profile(activities=activities) as seen:
        engine.transcribe(batch, GREEDY)
        meters.synchronize(bench.device)
    wall_s = time.perf_counter() - begun
    averages = list(seen.key_averages())
    top = sorted(averages, key=lambda event: event.self_cpu_time_total, reverse=True)[:10]
    kernels_s = sum(getattr(event, "self_device_time_total", 0.0) for event in averages) / 1e6
    yield {
        "case": "one call profiled",
        "batch": len(batch),
        "note": f"{wall_s:.2f} s, of which kernels ran {kernels_s:.2f} s; slower than unprofiled; "
        "top: " + ", ".join(f"{e.key} {e.self_cpu_time_total / 1e6:.2f} s" for e in top[:5]),
        "top": [
            {
                "name": event.key,
                "calls": event.count,
                "cpu_s": event.self_cpu_time_total / 1e6,
                "device_s": getattr(event, "self_device_time_total", 0.0) / 1e6,
            }
            for event in top
        ],
    }
