"""Loading a model, with a first inference and the choice of a batch size before any chunk comes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.infra.settings import Settings
from shared.models.catalogue import Model
from worker.batching.tuning import Remembered, remembered_here, tune
from worker.engines import load_engine
from worker.engines.protocol import Engine


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that has inferred once."""

    engine: Engine
    load_s: float
    """Wall time of loading it."""
    warm_up_s: float
    """Wall time of its first inference, and of measuring batches where none are remembered."""


def load(
    model: Model,
    settings: Settings,
    on_device: Callable[[], AbstractContextManager[None]] = nullcontext,
    remembered: Callable[[], Remembered] = remembered_here,
) -> Loaded:
    """Load a model, have it infer once, and choose the size of its batches.

    The first inference takes longer, as it sets up kernels, buffers and compilers. Some faults show
    only then: a dtype that the device lacks, a memory that is too small. ``on_device`` is entered
    for it: no other model infers meanwhile, nor counts in what is measured.

    Raises:
        ModelError: it cannot be loaded, or cannot infer.
    """
    begun = time.monotonic()
    try:
        engine = load_engine(
            model, device=settings.device, dtype=settings.dtype, compile=settings.torch_compile
        )
    except (DeviceOutOfMemory, EngineFailed) as error:
        raise ModelError(f"model '{model.id}' cannot be loaded: {_because(error)}") from error
    loaded = time.monotonic()
    try:
        with on_device():
            engine.rehearsal()(1)
            best = tune(engine, remembered(), beam_size=model.decode.beam_size)
        engine.max_batch = min(best, settings.max_batch or best)
    except (ModelError, DeviceOutOfMemory, EngineFailed) as error:
        raise ModelError(
            f"model '{model.id}' was loaded on {engine.device} with dtype {engine.dtype}, "
            f"but cannot infer: {_because(error)}"
        ) from error
    return Loaded(engine, loaded - begun, time.monotonic() - loaded)


def _because(error: Exception) -> str:
    """Return an error's message and that of its cause in one line."""
    because = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
    return " ".join(because.split())
