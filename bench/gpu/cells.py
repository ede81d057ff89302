"""One measurement: an engine loaded, full batches through a batcher, stage by stage."""

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.gpu import meters, shapes
from bench.gpu.meters import GB
from shared.infra.errors import DeviceOutOfMemory, EngineFailed
from shared.models.catalogue import Model
from worker.batching.batcher import Batcher
from worker.engines.protocol import DecodeOptions
from worker.engines.whisper.transformers_whisper import TransformersWhisperEngine
from worker.engines.whisper.vocabulary import MAX_POSITIONS

CEILINGS = "ceilings.json"
"""Name of a dtype -> operations per second; in the work folder, for the parts that come after."""
GREEDY = DecodeOptions(language="en", beam_size=1)
FILL_MS = 500.0
"""The batcher's wait where full batches are measured: longer than submitting one takes."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how large to measure."""

    device: Literal["cpu", "cuda"]
    dry: bool
    """Tiny models and few repetitions on a processor: shows that the parts work, not how fast."""
    work: Path
    """Folder of generated models, shared by the parts."""
    pack: Path
    """The folder that ``bench/gpu/pack.sh`` has filled."""

    @property
    def dtype(self) -> str:
        return "float32" if self.dry else "float16"

    def model(self, name: str) -> tuple[shapes.Shape, Model]:
        """Make a model of random weights, unless an earlier part has."""
        full = {"large-v3": shapes.LARGE_V3, "turbo": shapes.TURBO, "w2v-bert": shapes.W2V_BERT}
        shape: shapes.Shape = full[name]
        if self.dry:
            whisper = isinstance(shape, shapes.WhisperShape)
            shape = shapes.TINY_WHISPER if whisper else shapes.TINY_W2V_BERT
        model = shapes.make(shape, self.work / name, self.device)
        free_memory(self)
        return shape, model

    def ceiling_percent(self, flops_per_s: float, dtype: str) -> float | None:
        """Return the share of the rate that the part ``machine`` has measured, if it has."""
        path = self.work / CEILINGS
        ceiling = json.loads(path.read_text()).get(dtype) if path.exists() else None
        return 100 * flops_per_s / ceiling if ceiling else None


class WithoutWordTimes(TransformersWhisperEngine):
    """The engine, but for the times of words: what other systems' numbers are of."""

    def _attention(self, *_: Any) -> dict[int, Any]:
        return {}


class WithStaticCache(WithoutWordTimes):
    """The same with keys and values in buffers of fixed size: on a GPU the library compiles a step
    for them and replays it as one CUDA graph. An experiment: the engine does not do this."""

    def _new_cache(self, encoded: Any) -> Any:
        from transformers import StaticCache

        cache = super()._new_cache(encoded)
        cache.self_attention_cache = StaticCache(self._net.config, max_cache_len=MAX_POSITIONS)
        return cache


def load(
    engine_class: Any, model: Model, bench: Bench, *, dtype: str | None = None, **options: Any
) -> tuple[Any, Row]:
    """Load a model with an engine's class; also return how long that took, as a row."""
    begun = time.perf_counter()
    engine = engine_class(model, bench.device, dtype or bench.dtype, **options)
    took_s = time.perf_counter() - begun
    note = f"{took_s:.1f} s, largest batch {engine.max_batch}"
    return engine, {"case": "loading", "memory_gb": peak_gb(bench), "note": note}


def attention(engine: Any) -> str:
    """Name dtype and attention: the engine takes flash attention wherever it is installed."""
    return f"{engine.dtype} {engine._net.config._attn_implementation}"


def measure_speed(
    bench: Bench,
    engine: Any,
    shape: shapes.Shape,
    batch: int,
    case: str,
    *,
    dtype: str | None = None,
    is_warm: bool = False,
) -> Row:
    """Measure what comes out of a batcher that always has full batches waiting.

    Unless the engine is warm from a larger batch, it hears one before the time counts.
    """
    items = shapes.windows(batch, shape.window_s)
    said: list[int] = []
    attempt = getattr(engine, "_attempt", None)
    reset_peak(bench)
    try:
        if not is_warm:
            engine.transcribe(items, GREEDY)
    except DeviceOutOfMemory:
        return {"case": case, "batch": batch, "note": "does not fit"}
    except EngineFailed as error:
        return {"case": case, "batch": batch, "note": f"{error}: {error.__cause__}"}
    if attempt is not None:

        def counted(answer: Any) -> Any:
            said.append(len(answer.tokens))
            return attempt(answer)

        engine._attempt = counted
    n_calls = 2 if batch >= 32 else 1
    busy = meters.Busy(bench.device)
    watched = meters.Watched(engine)
    batcher = Batcher(watched, max_batch=batch, max_wait_ms=FILL_MS if batch > 1 else 0)
    begun = time.perf_counter()
    with busy.watch():
        futures = [batcher.submit(item, GREEDY) for _ in range(n_calls) for item in items]
        inferences = [future.result() for future in futures]
    wall_s = time.perf_counter() - begun
    batcher.close()
    if attempt is not None:
        engine._attempt = attempt
    audio_s = shape.window_s * len(inferences)
    flops = len(inferences) * shape.flops(shape.window_s) / wall_s
    note = f"{wall_s / n_calls:.2f} s a batch"
    if said:
        note += f", {sum(said) / len(said):.0f} tokens"
        if len(said) != len(inferences):
            note += f", {len(said) / len(inferences):.1f} attempts a window: the clock failed"
    return {
        "case": case,
        "batch": max(inference.batch_size for inference in inferences),
        "rtfx": audio_s / wall_s,
        "ceiling_percent": bench.ceiling_percent(flops, dtype or bench.dtype),
        "busy_percent": busy.percent,
        "memory_gb": peak_gb(bench),
        "note": note,
        "calls_s": [round(end - at, 3) for at, end, _ in watched.calls],
    }


def measure_stages(bench: Bench, engine: Any, batch: int) -> Row:
    """Say where the time of one batch goes, stage by stage."""
    items = shapes.windows(batch, 20.0)
    names = ("_features", "_prepare", "_encode", "_generate", "_align", "_place", "_attempt")
    begun = time.perf_counter()
    with meters.stages(engine, names, bench.device) as spent:
        engine.transcribe(items, GREEDY)
    spent["all"] = time.perf_counter() - begun
    note = ", ".join(f"{name.lstrip('_')} {seconds:.3f}" for name, seconds in spent.items())
    return {"case": "seconds by stage", "batch": batch, "note": note, "stages_s": dict(spent)}


def free_memory(bench: Bench) -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if bench.device == "cuda":
        import torch

        torch.cuda.empty_cache()


def reset_peak(bench: Bench) -> None:
    """Have the peak begin with what is held now."""
    free_memory(bench)
    if bench.device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def held_bytes(bench: Bench) -> int:
    """Return what is held of a GPU's memory; 0 on a processor."""
    if bench.device != "cuda":
        return 0
    import torch

    return int(torch.cuda.memory_allocated())


def peak_bytes(bench: Bench) -> int:
    """Return the most that was held since the peak was reset."""
    if bench.device != "cuda":
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated())


def peak_gb(bench: Bench) -> float | None:
    """Return the same for a row."""
    return peak_bytes(bench) / GB or None
