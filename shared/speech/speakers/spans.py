"""The spans of a recording in which speakers are told apart, one step each.

Samples count on the decoded recording. Only chunks are stored, so a span is made of whole chunks;
what lies between them is silence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.timemap import Anchor, time_of
from shared.speech.chunks.chunk import Chunk
from shared.speech.speakers.turns import Turn

SPAN_SAMPLES = 600 * SAMPLE_RATE
"""The length of a span: ten minutes, 38 MB as float32."""
CONTEXT_SAMPLES = 5 * SAMPLE_RATE
"""Audio before and after a span that is heard with it: half a window of a diarization, so a span's
first and last words are heard as well as all others."""


class Stretch(NamedTuple):
    """Samples [start, end) of the recording, and where the first of them is in the stored audio."""

    start: int
    end: int
    stored_at: int


@dataclass(frozen=True, slots=True)
class SpeakerSpan:
    """A span with its context: samples [start, end), of which the stretches are stored."""

    start: int
    end: int
    stretches: tuple[Stretch, ...]
    """In order; they may overlap."""
    times: tuple[Anchor, ...] = ()
    """Where the samples lie on the file's clock; none where they are their own times."""

    def to_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "end": self.end,
            "stretches": [list(stretch) for stretch in self.stretches],
            "times": [list(anchor) for anchor in self.times],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "SpeakerSpan":
        return cls(
            document["start"],
            document["end"],
            tuple(Stretch(*stretch) for stretch in document["stretches"]),
            tuple((sample, time) for sample, time in document["times"]),
        )


class SpanPlanner:
    """Groups the chunks of a stream into spans. Equal chunks make equal spans."""

    def __init__(self) -> None:
        self._before: list[Chunk] = []
        """Chunks that the context of the next span may reach into."""
        self._chunks: list[Chunk] = []

    def push(self, chunks: Iterable[Chunk]) -> list[SpeakerSpan]:
        """Take the next chunks, in order; return the spans that are complete."""
        spans = []
        for chunk in chunks:
            if self._chunks and chunk.core_end - self._chunks[0].core_start > SPAN_SAMPLES:
                spans.append(self._close([chunk]))
            self._chunks.append(chunk)
        return spans

    def finish(self) -> list[SpeakerSpan]:
        """Return what is left."""
        return [self._close([])] if self._chunks else []

    def _close(self, after: Sequence[Chunk]) -> SpeakerSpan:
        own = self._chunks
        start = max(0, own[0].core_start - CONTEXT_SAMPLES)
        end = own[-1].core_end + CONTEXT_SAMPLES
        heard = [each for each in (*self._before, *own, *after) if each.end > start]
        stretches = _joined(
            Stretch(
                max(each.start, start),
                min(each.end, end),
                each.stored_at + max(0, start - each.start),
            )
            for each in heard
            if each.start < end
        )
        anchors = {anchor for each in heard for anchor in each.times}
        self._before = [each for each in own if each.end > own[-1].core_end - CONTEXT_SAMPLES]
        self._chunks = []
        # Without a chunk behind it the recording ends, or is silent.
        last = max(stretch.end for stretch in stretches)
        return SpeakerSpan(start, min(end, last), stretches, tuple(sorted(anchors)))


def _joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Join stretches that overlap or touch, in the recording and in the store alike."""
    joined: list[Stretch] = []
    for stretch in stretches:
        if joined:
            last = joined[-1]
            ahead = stretch.start - last.start
            if stretch.start <= last.end and last.stored_at + ahead == stretch.stored_at:
                joined[-1] = last._replace(end=max(last.end, stretch.end))
                continue
        joined.append(stretch)
    return tuple(joined)


def on_file_clock(turns: Iterable[Turn], spans: Iterable[SpeakerSpan]) -> list[Turn]:
    """Return turns, whose times count on the decoded recording, with times of the file."""
    anchors = sorted({anchor for span in spans for anchor in span.times})

    def placed(seconds: float) -> float:
        return time_of(anchors, round(seconds * SAMPLE_RATE)) / SAMPLE_RATE

    return [
        Turn(placed(turn.start_s), placed(turn.end_s), turn.speaker, turn.overlap, turn.confidence)
        for turn in turns
    ]
