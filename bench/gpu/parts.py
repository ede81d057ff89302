"""The parts of a run, in their order; each a function that yields its rows.

A part runs in a process that has touched no GPU before, and may fail or be ended at any time.
"""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from bench.gpu import meters, sentences
from bench.gpu.cells import (
    CEILINGS,
    GREEDY,
    Bench,
    Row,
    WithoutWordTimes,
    WithStaticCache,
    attention,
    free_memory,
    load,
    measure_speed,
    measure_stages,
)
from bench.gpu.feeding import feed_by_threads
from bench.gpu.meters import GB
from bench.gpu.shortage import find_what_fits, squeeze
from shared.models.catalogue import load_catalogue
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines import load_engine
from worker.engines.ctc.transformers_ctc import TransformersCtcEngine
from worker.engines.protocol import Engine
from worker.engines.whisper import gpu_batch
from worker.engines.whisper.transformers_whisper import TransformersWhisperEngine

ROOT = Path(__file__).resolve().parents[2]
CONFIDENCE_TOLERANCE = {"float16": 0.05, "bfloat16": 0.2}
"""How far a word's confidence may be off that of float32, which has 13 and 16 more bits."""


def machine(bench: Bench) -> Iterator[Row]:
    """What the numbers are of, and the ceilings to hold them against."""
    import torch

    yield {
        "python": platform.python_version(),
        "cpus": len(_cpus()),
        **{name: _version(name) for name in ("torch", "transformers", "tokenizers", "numpy")},
        "flash_attn": find_spec("flash_attn") is not None,
    }
    if bench.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        yield {
            "gpu": properties.name,
            "memory_gb": properties.total_memory / GB,
            "cuda": torch.version.cuda,
        }
    size = 256 if bench.dry else 8192
    dtypes = ("float32", "bfloat16") if bench.dry else ("float16", "bfloat16")
    rates = {
        dtype: meters.matmul_flops(bench.device, getattr(torch, dtype), size) for dtype in dtypes
    }
    (bench.work / CEILINGS).write_text(json.dumps(rates))
    yield {f"{dtype}_tflops": rate / 1e12 for dtype, rate in rates.items()}
    copied = meters.copy_bytes(bench.device, 2**22 if bench.dry else 2**32)
    yield {"copy_gb_per_s": copied / GB}


def words(bench: Bench) -> Iterator[Row]:
    """The trained models of tests/models: half precision hears what float32 on a processor does."""
    catalogue = load_catalogue(ROOT / "tests/models/models.toml")
    spoken = list(sentences.load(bench.pack).values())
    if bench.dry:
        spoken = spoken[:2]
    for name in ("tiny-whisper", "tiny-w2v-bert"):
        model = catalogue.get(name)
        expected = _hear(load_engine(model, device="cpu", dtype="float32"), spoken)
        for dtype in ("bfloat16",) if bench.dry else ("float16", "bfloat16"):
            heard = _hear(load_engine(model, device=bench.device, dtype=dtype), spoken)
            yield {"case": f"{name} {dtype}", **_compare(expected, heard, dtype)}


def large_v3(bench: Bench) -> Iterator[Row]:
    """Whisper large-v3's shape by batch size, in float16."""
    yield from _by_batch(bench, "large-v3")


def large_v3_otherwise(bench: Bench) -> Iterator[Row]:
    """Its tuned batch with word times, and in bfloat16."""
    shape, model = bench.model("large-v3")
    engine, _ = load(TransformersWhisperEngine, model, bench)
    tuned = engine.max_batch
    yield measure_speed(bench, engine, shape, tuned, f"{attention(engine)}, word times")
    yield measure_stages(bench, engine, tuned)
    del engine
    free_memory(bench)
    engine, _ = load(WithoutWordTimes, model, bench, dtype="bfloat16")
    yield measure_speed(bench, engine, shape, tuned, attention(engine), dtype="bfloat16")


def turbo(bench: Bench) -> Iterator[Row]:
    """Whisper large-v3-turbo's shape by batch size."""
    yield from _by_batch(bench, "turbo")


def memory(bench: Bench) -> Iterator[Row]:
    """The batch that the engine takes to fit against what does; batches while memory is short."""
    _, model = bench.model("turbo")
    engine, _ = load(WithoutWordTimes, model, bench)
    yield squeeze(bench, engine)
    del engine
    free_memory(bench)
    _, model = bench.model("large-v3")
    capped = gpu_batch.LARGEST_GPU_BATCH
    gpu_batch.LARGEST_GPU_BATCH = 100_000
    try:
        engine, _ = load(WithoutWordTimes, model, bench)
    finally:
        gpu_batch.LARGEST_GPU_BATCH = capped
    yield from find_what_fits(bench, engine)


def feeding(bench: Bench) -> Iterator[Row]:
    """The batcher fed by many threads, with word times, as a worker is."""
    _, model = bench.model("turbo")
    engine, _ = load(TransformersWhisperEngine, model, bench)
    yield from feed_by_threads(bench, engine)


def w2v_bert(bench: Bench) -> Iterator[Row]:
    """w2v-BERT 2.0's shape, 20 s an item, by batch size."""
    shape, model = bench.model("w2v-bert")
    engine, loading = load(TransformersCtcEngine, model, bench)
    yield loading
    for batch in (1, 2) if bench.dry else (1, 8, 16, 32, 64):
        yield measure_speed(bench, engine, shape, batch, engine.dtype)
    yield measure_stages(bench, engine, engine.max_batch)


def compiled(bench: Bench) -> Iterator[Row]:
    """The tuned batches with a step that is compiled and replayed, and as the engine compiles."""
    for name in ("turbo",) if bench.dry else ("turbo", "large-v3"):
        shape, model = bench.model(name)
        engine, _ = load(WithStaticCache, model, bench)
        case = f"{name}, {attention(engine)}, static cache"
        yield measure_speed(bench, engine, shape, engine.max_batch, case)
        del engine
        free_memory(bench)
    if bench.dry:  # there may be no compiler here, and it would take a minute
        return
    shape, model = bench.model("turbo")
    engine, loading = load(WithoutWordTimes, model, bench, compile=True)
    yield loading
    case = f"turbo, {attention(engine)}, LONGHAND_TORCH_COMPILE"
    yield measure_speed(bench, engine, shape, engine.max_batch, case)


PART_FUNCTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "machine": machine,
    "words": words,
    "large-v3": large_v3,
    "large-v3 otherwise": large_v3_otherwise,
    "turbo": turbo,
    "memory": memory,
    "feeding": feeding,
    "w2v-bert": w2v_bert,
    "compiled": compiled,
}


def _by_batch(bench: Bench, name: str) -> Iterator[Row]:
    """Measure a Whisper batch by batch, and by stage at the batch that the engine has chosen.

    That batch comes first, as time may run out, then a larger one; the rest needs no warming up.
    """
    shape, model = bench.model(name)
    engine, loading = load(WithoutWordTimes, model, bench)
    yield loading
    tuned = engine.max_batch
    yield measure_speed(bench, engine, shape, tuned, attention(engine))
    yield measure_stages(bench, engine, tuned)
    if not bench.dry:
        yield measure_speed(bench, engine, shape, tuned * 3 // 2, attention(engine))
    for batch in (n for n in (32, 16, 8, 1) if n < tuned):
        yield measure_speed(bench, engine, shape, batch, attention(engine), is_warm=True)


def _hear(engine: Engine, spoken: Sequence[Samples]) -> list[Hypothesis]:
    heard: list[Hypothesis] = []
    for at in range(0, len(spoken), engine.max_batch):
        heard += engine.transcribe(spoken[at : at + engine.max_batch], GREEDY)
    return heard


def _compare(expected: Sequence[Hypothesis], heard: Sequence[Hypothesis], dtype: str) -> Row:
    pairs = [
        (a, b)
        for one, other in zip(expected, heard, strict=True)
        for a, b in zip(one.words, other.words, strict=False)
    ]
    n_words = sum(len(hypothesis.words) for hypothesis in expected)
    n_same = sum(a.text == b.text for a, b in pairs)
    n_heard = sum(len(hypothesis.words) for hypothesis in heard)
    off = max((abs((a.confidence or 0) - (b.confidence or 0)) for a, b in pairs), default=0.0)
    tolerance = CONFIDENCE_TOLERANCE[dtype]
    same = n_same == n_words == n_heard and n_words > 0
    return {
        "note": f"{n_same} of {n_words} words the same; confidences off by {off:.1e} at most, "
        f"{'within' if off <= tolerance else 'NOT within'} {tolerance}",
        "ok": same and off <= tolerance,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpus() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))
