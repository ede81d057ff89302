"""The chunk plan: speech spans gathered up to the model's window.

A chunk's core runs from the start of its first span to the end of its last one. Chunks are cut in
silence if possible. A span that is longer than the window, or would leave most of a window empty,
is cut at its quietest point. There both neighbours hear a stride of each other's core, so no word
is lost or doubled.

For a model whose window has a fixed cost, long pauses within a chunk are shortened
(``shared.speech.chunks.packing``). What is left of the chunk fits the window.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import MAX_LAG_SAMPLES
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.packing import n_saved, shorten_pauses

FRAME_SAMPLES = SAMPLE_RATE * 20 // 1000
"""Energy is measured per 20 ms, on a grid that starts at sample 0."""

QUIET_FRAMES = 5
"""A cut lies in the quietest 100 ms, which is a pause; 20 ms may be the closure of a 't'."""

MAX_STRIDE_S = 2.0
"""Overlap on each side of a cut inside speech: two seconds hold any word and its neighbours. Short
windows take a sixth of their length, as the Transformers ASR pipeline does."""

MAX_BRIDGE_S = 3.0
"""A longer gap between spans starts a new chunk. Shorter pauses occur within one speaker's turn,
and cost less than another chunk (a step, a read, for Whisper a padded window of 30 s). Longer
silence wastes compute, and Whisper invents text for it."""

MAX_PACKED_BRIDGE_S = 10.0
"""The same where pauses are shortened, and so cost no more than short ones."""

MAX_PACKED_WINDOWS = 2
"""A chunk whose pauses are shortened reaches over so many windows of the recording at most: all of
it is read and held in memory."""

SEARCH_SHARE = 0.25
"""Share of the window, at its end, in which the quietest point is looked for."""

LEAST_SHARE = 0.5
"""Share of the window that spans must fill to end a chunk where the next span does not fit. If they
fill less, that span is cut: a word or two alone in a chunk are heard badly, and a Whisper's window
costs the same whatever it holds."""


class ChunkPlanner:
    """Plans the chunks of one recording while it is being read.

    The plan depends on the audio and its spans, not on the size of the blocks pushed. Memory is
    bounded by the window: one number per 20 ms of pending speech is kept.
    """

    def __init__(self, window_s: float, *, packed: bool = False) -> None:
        """Begin a plan.

        Args:
            window_s: the most that is heard of a chunk, strides included.
            packed: whether long pauses are shortened.
        """
        if window_s < 1:
            raise ValueError(f"a window of {window_s} s leaves no room for strides")
        self._window = int(window_s * SAMPLE_RATE)
        self._packed = packed
        self._most = MAX_PACKED_WINDOWS * self._window if packed else self._window
        self._stride = min(int(MAX_STRIDE_S * SAMPLE_RATE), self._window // 6)
        self._search = int(SEARCH_SHARE * self._window)
        self._bridge = int((MAX_PACKED_BRIDGE_S if packed else MAX_BRIDGE_S) * SAMPLE_RATE)
        self._index = 0
        self._stride_left = 0
        self._spans: list[Span] = []
        """Pending speech: the spans, as long as possible and in order, of the next chunk."""
        self._energies = _FrameEnergies()

    @property
    def first_pending(self) -> int:
        """A sample at or before the start of every chunk to come."""
        heard = self._energies.n_samples - MAX_LAG_SAMPLES
        start = self._spans[0].start if self._spans else heard
        return max(0, start - self._stride_left)

    def push(self, block: Pcm, spans: Sequence[Span]) -> list[Chunk]:
        """Take the next samples, shape (n_samples,), and the spans that the VAD returned for them.

        Spans follow the contract of ``Vad``: in order, disjoint, within the samples pushed, and at
        most MAX_LAG_SAMPLES late.

        Returns:
            The chunks that later audio cannot change.
        """
        self._energies.push(block)
        chunks = [chunk for span in spans for chunk in self._add(span)]
        heard = self._energies.n_samples - MAX_LAG_SAMPLES  # no later span starts before this
        if self._spans and heard > self._spans[-1].end + self._bridge:
            chunks.append(self._close(len(self._spans)))
        self._energies.forget_before(self._spans[0].start if self._spans else heard)
        return chunks

    def finish(self) -> list[Chunk]:
        """Return the last chunk, if any speech is pending; call once, after the last push."""
        return [self._close(len(self._spans))] if self._spans else []

    def _add(self, span: Span) -> list[Chunk]:
        chunks = []
        if self._spans and span.start == self._spans[-1].end:
            span = Span(self._spans.pop().start, span.end)
        elif self._spans and span.start > self._spans[-1].end + self._bridge:
            chunks.append(self._close(len(self._spans)))
        self._spans.append(span)
        while self._spans[-1].end > self._full:
            chunks.append(self._end())
        return chunks

    @property
    def _start(self) -> int:
        """The first sample of the next chunk."""
        return self._spans[0].start - self._stride_left

    @property
    def _full(self) -> int:
        """The end of the longest chunk of the pending speech, strides included."""
        return self._start + min(self._window + self._n_saved(self._spans), self._most)

    def _n_saved(self, spans: Sequence[Span]) -> int:
        """Return by how many samples the pauses between spans are shortened."""
        return n_saved(spans) if self._packed else 0

    def _end(self) -> Chunk:
        """End the chunk in the silence before the last pending span, or cut that span."""
        *before, last = self._spans
        latest = self._full - self._stride
        if before:
            share = (before[-1].end - self._start - self._n_saved(before)) / self._window
            reaches_far = self._packed and self._full == self._start + self._most
            if share >= LEAST_SHARE or reaches_far or last.start >= latest - self._search:
                return self._close(len(before))
        cut = self._energies.quietest(latest - self._search, latest)
        self._spans = [Span(cut, last.end)]
        return self._emit([*before, Span(last.start, cut)], stride_right=self._stride)

    def _close(self, n_spans: int) -> Chunk:
        """End the chunk in the silence after ``n_spans`` pending spans."""
        spans = self._spans[:n_spans]
        del self._spans[:n_spans]
        return self._emit(spans, stride_right=0)

    def _emit(self, spans: Sequence[Span], stride_right: int) -> Chunk:
        """Return the chunk of these spans; its strides lie within speech."""
        start, end = spans[0].start, spans[-1].end
        chunk = Chunk(self._index, start, end, self._stride_left, stride_right)
        if len(spans) > 1:
            starts = [chunk.start, *(span.start for span in spans[1:])]
            ends = [*(span.end for span in spans[:-1]), chunk.end]
            first = chunk.start
            speech = tuple(Span(a - first, b - first) for a, b in zip(starts, ends, strict=True))
            parts = shorten_pauses(speech) if self._packed else ()
            chunk = replace(chunk, speech=speech, parts=parts)
        self._index += 1
        self._stride_left = stride_right
        return chunk


class _FrameEnergies:
    """Energies of recent frames. Integers are exact, so equal audio has equal plans."""

    def __init__(self) -> None:
        self.n_samples = 0
        self._first = 0
        """Index of the first frame kept."""
        self._energies: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._rest: Pcm = np.zeros(0, np.int16)

    def push(self, block: Pcm) -> None:
        self.n_samples += len(block)
        samples = np.concatenate([self._rest, block])
        n_whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[n_whole:]
        frames = samples[:n_whole].reshape(-1, FRAME_SAMPLES).astype(np.int64)
        self._energies = np.concatenate([self._energies, np.square(frames).sum(axis=1)])

    def forget_before(self, sample: int) -> None:
        n_old = min(max(0, sample // FRAME_SAMPLES - self._first), len(self._energies))
        self._energies = self._energies[n_old:]
        self._first += n_old

    def quietest(self, start: int, end: int) -> int:
        """Return the middle of the quietest QUIET_FRAMES within samples [start, end); of equally
        quiet ones the last."""
        first = -(-start // FRAME_SAMPLES)
        frames = self._energies[first - self._first : end // FRAME_SAMPLES - self._first]
        sums = np.convolve(frames, np.ones(QUIET_FRAMES, np.int64), "valid")
        last_quietest = len(sums) - 1 - int(np.argmin(sums[::-1]))
        return (first + last_quietest) * FRAME_SAMPLES + QUIET_FRAMES * FRAME_SAMPLES // 2
