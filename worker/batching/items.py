"""An item on its way through the batcher, and what comes out."""

import time
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from shared.infra.tracing import NO_SPAN, Span
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines.protocol import DecodeOptions, Prepared


class Lane(IntEnum):
    """What an item is for; lower ones go first."""

    FINAL = 0
    """The text of an utterance: somebody waits for it."""
    PARTIAL = 1
    """What somebody has said so far: worth little once there is a newer one."""
    BATCH = 2
    """A chunk of a job."""


@dataclass(frozen=True, slots=True)
class Inference:
    """The result for one item, and the engine call that gave it."""

    hypothesis: Hypothesis
    batch_size: int
    """Items in the call, the first of several; 0 where none was needed."""
    inference_s: float
    """Wall time of the call, all its items together; of all calls that the item was in."""
    batch_wait_s: float
    """From submission to the beginning of the first call."""
    device_memory_bytes: int | None
    """Device memory that the process held after the call; None where it is not known."""


@dataclass(slots=True, eq=False)
class Item:
    """What was submitted, and how far it has come."""

    samples: Samples
    options: DecodeOptions
    alone: AbstractContextManager[None] | None = None
    lane: Lane = Lane.BATCH
    first: bool = False
    """Whether it is the first partial of its utterance."""
    span: Span = NO_SPAN
    """Whose work it is part of."""
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

    @property
    def is_live(self) -> bool:
        """Whether somebody who speaks waits for it."""
        return self.lane is not Lane.BATCH

    def begin(self) -> bool:
        """Return whether it is still wanted; from now on its future cannot be cancelled."""
        return self.begun is not None or self.future.set_running_or_notify_cancel()
