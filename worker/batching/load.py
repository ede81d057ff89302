"""Loading a model, with a first inference before any chunk comes."""

import time
from dataclasses import dataclass

import numpy as np

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.infra.settings import Settings
from shared.models.catalogue import Model
from shared.speech.chunks import SAMPLE_RATE
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Engine

WARM_UP_RMS = 0.001
"""-60 dBFS, a quiet room: engines skip digital silence only."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that has inferred once."""

    engine: Engine
    load_s: float
    """Wall time of loading it."""
    warm_up_s: float
    """Wall time of its first inference."""


def load(model: Model, settings: Settings) -> Loaded:
    """Load a model and let it hear a second of noise.

    The first inference takes longer, as it sets up kernels, buffers and compilers. Some faults show
    only then: a dtype that the device lacks, a memory that is too small.

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
    noise = np.random.default_rng(0).normal(0.0, WARM_UP_RMS, SAMPLE_RATE).astype(np.float32)
    options = DecodeOptions(language=model.only_language, beam_size=model.decode.beam_size)
    try:
        engine.transcribe([noise], options)
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
