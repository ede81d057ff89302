"""Chunks: the parts of a job's audio that a model hears one by one.

Positions are samples of the decoded audio. A chunk's ``times`` map them to the clock of the file.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shared.speech.audio.spans import Span, spans_from_json, spans_to_json
from shared.speech.audio.timemap import Anchor, time_of


@dataclass(frozen=True, slots=True)
class Chunk:
    """One unit of inference: [start, end) is heard, words in [core_start, core_end) are kept.

    The strides on both sides are context that neighbours hear as well. Cores never overlap. Long
    pauses in it may be shortened (``packing``).
    """

    index: int
    core_start: int
    core_end: int
    stride_left: int
    stride_right: int
    channel: int | None = None
    """The channel it was cut from; None where all were mixed down to one."""
    times: tuple[Anchor, ...] = ()
    """Where its samples lie on the file's clock; none where they are their own times."""
    speech: tuple[Span, ...] = ()
    """Where the voice activity detector heard speech, in samples from the chunk's first one; none
    where that is everywhere."""
    parts: tuple[Span, ...] = ()
    """What a model hears of it, in samples from the chunk's first one; none where that is all."""
    stored_at: int = 0
    """Where its first sample is in the stored audio, which has the audio of chunks alone."""

    @property
    def start(self) -> int:
        return self.core_start - self.stride_left

    @property
    def end(self) -> int:
        return self.core_end + self.stride_right

    def time_of(self, sample: int) -> int:
        """Return when a sample of the decoded audio is heard on the file's clock."""
        return time_of(self.times, sample)

    @property
    def n_samples(self) -> int:
        """Length, strides and pauses included."""
        return self.end - self.start

    @property
    def heard(self) -> tuple[Span, ...]:
        """What a model hears of it, in samples from the chunk's first one; never empty."""
        return self.parts or (Span(0, self.n_samples),)

    @property
    def n_heard_samples(self) -> int:
        """Length of what a model hears of it."""
        return sum(part.end - part.start for part in self.heard)

    @property
    def n_core_samples(self) -> int:
        """Length of the core; those of a channel's chunks add up to its planned audio."""
        return self.core_end - self.core_start


def chunk_to_json(chunk: Chunk) -> dict[str, Any]:
    """Return the input of a chunk's ``transcribe`` step, whose idx is the chunk's index."""
    values = asdict(chunk) | {
        "speech": spans_to_json(chunk.speech),
        "parts": spans_to_json(chunk.parts),
    }
    left_out = {"index", *(name for name in ("times", "speech", "parts") if not values[name])}
    return {name: value for name, value in values.items() if name not in left_out}


def chunk_from_json(idx: int, data: Mapping[str, Any]) -> Chunk:
    """Return the chunk that a ``transcribe`` step's input describes.

    Members that an older version did not write have defaults; unknown ones are ignored.
    """
    return Chunk(
        index=idx,
        core_start=data["core_start"],
        core_end=data["core_end"],
        stride_left=data["stride_left"],
        stride_right=data["stride_right"],
        channel=data.get("channel"),
        times=tuple((sample, time) for sample, time in data.get("times", ())),
        speech=spans_from_json(data.get("speech", ())),
        parts=spans_from_json(data.get("parts", ())),
        stored_at=data.get("stored_at", 0),
    )
