"""A chunk on its way through the batcher, and what comes out."""

import time
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis
from worker.engines.protocol import DecodeOptions, Prepared


@dataclass(frozen=True, slots=True)
class Inference:
    """The result for one chunk, and the engine call that gave it."""

    hypothesis: Hypothesis
    batch_size: int
    """Items in the call, the first of several; 0 where none was needed."""
    inference_s: float
    """Wall time of the call, all its items together; of all calls that the chunk was in."""
    batch_wait_s: float
    """From submission to the beginning of the first call."""
    device_memory_bytes: int | None
    """Device memory that the process held after the call; None where it is not known."""


@dataclass(slots=True, eq=False)
class Item:
    """A chunk that was submitted, and how far it has come."""

    samples: Samples
    options: DecodeOptions
    alone: AbstractContextManager[None] | None
    future: Future[Inference] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    prepared: Prepared[Any] | None = None
    """None while it is being prepared; always for one that is to be alone."""
    begun: float | None = None
    """When its first call began."""
    batch_size: int = 0
    inference_s: float = 0.0

    @property
    def n_samples(self) -> int:
        """What the device computes for it."""
        return self.prepared.n_samples if self.prepared else len(self.samples)

    @property
    def is_ready(self) -> bool:
        """Whether a call may take it."""
        return self.prepared is not None or self.alone is not None
