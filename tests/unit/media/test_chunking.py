"""The chunk planner: every speech sample in exactly one core, every chunk within the window."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import MAX_LAG_SAMPLES
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.packing import KEPT_PAUSE_SAMPLES, shorten_pauses
from worker.media.planner import (
    MAX_BRIDGE_S,
    MAX_PACKED_BRIDGE_S,
    MAX_PACKED_WINDOWS,
    MAX_STRIDE_S,
    ChunkPlanner,
)

NOISE: Pcm = np.random.default_rng(7).integers(-9000, 9000, 60 * SAMPLE_RATE).astype(np.int16)

windows_s = st.sampled_from([1.0, 2.5, 7.3])
lengths = st.one_of(st.integers(1, 2000), st.integers(1, 15 * SAMPLE_RATE))
gaps = st.one_of(st.integers(1, 2000), st.integers(1, 5 * SAMPLE_RATE))


@st.composite
def speech(draw: st.DrawFn) -> list[Span]:
    spans, position = [], draw(st.integers(0, 3 * SAMPLE_RATE))
    for length, gap in draw(st.lists(st.tuples(lengths, gaps), max_size=8)):
        if position + length > len(NOISE):
            break
        spans.append(Span(position, position + length))
        position += length + gap
    return spans


def plan(
    window_s: float,
    spans: list[Span],
    audio: Pcm = NOISE,
    ends: list[int] | None = None,
    lag: int = 0,
    *,
    packed: bool = False,
) -> list[Chunk]:
    """Push ``audio`` in blocks that stop at ``ends``; speech comes in pieces, ``lag`` late."""
    planner = ChunkPlanner(window_s, packed=packed)
    chunks, pushed, heard = [], 0, 0
    for end in [*sorted(ends or []), len(audio)]:
        due = end if end == len(audio) else max(heard, end - lag)
        pieces = [Span(max(s.start, heard), min(s.end, due)) for s in spans]
        chunks += planner.push(audio[pushed:end], [p for p in pieces if p.start < p.end])
        pushed, heard = end, due
    return chunks + planner.finish()


def seconds(start: float, end: float) -> Span:
    return Span(int(start * SAMPLE_RATE), int(end * SAMPLE_RATE))


@given(windows_s, speech(), st.booleans())
def test_every_speech_sample_is_in_exactly_one_core(
    window_s: float, spans: list[Span], packed: bool
) -> None:
    chunks = plan(window_s, spans, packed=packed)

    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(a.core_end <= b.core_start for a, b in pairwise(chunks))
    in_core = np.zeros(len(NOISE), bool)
    for chunk in chunks:
        in_core[chunk.core_start : chunk.core_end] = True
    assert all(in_core[span.start : span.end].all() for span in spans)


@given(windows_s, speech())
def test_cores_begin_and_end_in_speech_and_bridge_only_short_silence(
    window_s: float, spans: list[Span]
) -> None:
    is_speech = np.zeros(len(NOISE) + 1, bool)
    for span in spans:
        is_speech[span.start : span.end] = True

    for chunk in plan(window_s, spans):
        assert is_speech[chunk.core_start]
        assert is_speech[chunk.core_end - 1]
        spoken = np.flatnonzero(is_speech[chunk.core_start : chunk.core_end])
        assert np.diff(spoken).max(initial=0) <= MAX_BRIDGE_S * SAMPLE_RATE + 1


@given(windows_s, speech(), st.booleans())
def test_core_and_strides_fit_the_window_and_the_neighbours(
    window_s: float, spans: list[Span], packed: bool
) -> None:
    chunks = plan(window_s, spans, packed=packed)

    most_s = MAX_PACKED_WINDOWS * window_s if packed else window_s
    assert all(0 < chunk.n_samples <= most_s * SAMPLE_RATE for chunk in chunks)
    assert all(chunk.n_heard_samples <= window_s * SAMPLE_RATE for chunk in chunks)
    assert all(chunk.start >= 0 and chunk.end <= len(NOISE) for chunk in chunks)
    for left, right in pairwise(chunks):
        assert left.stride_right == right.stride_left
        assert left.end <= right.core_end
        assert right.start >= left.core_start
        assert (left.stride_right > 0) == (left.core_end == right.core_start)


@given(windows_s, speech(), st.booleans())
def test_speech_of_a_chunk_is_where_the_detector_heard_it(
    window_s: float, spans: list[Span], packed: bool
) -> None:
    is_speech = np.zeros(len(NOISE), bool)
    for span in spans:
        is_speech[span.start : span.end] = True

    for chunk in plan(window_s, spans, packed=packed):
        found = np.full(chunk.n_samples, not chunk.speech)
        for span in chunk.speech:
            found[span.start : span.end] = True
        core = slice(chunk.stride_left, chunk.stride_left + chunk.n_core_samples)
        assert np.array_equal(found[core], is_speech[chunk.core_start : chunk.core_end])
        assert all(0 <= span.start < span.end <= chunk.n_samples for span in chunk.speech)


@given(
    windows_s,
    speech(),
    st.lists(st.integers(1, len(NOISE) - 1), max_size=40),
    st.integers(0, MAX_LAG_SAMPLES),
    st.booleans(),
)
def test_plan_does_not_depend_on_blocks_pieces_or_lag(
    window_s: float, spans: list[Span], ends: list[int], lag: int, packed: bool
) -> None:
    once = plan(window_s, spans, packed=packed)

    assert plan(window_s, spans, ends=ends, lag=lag, packed=packed) == once


@given(windows_s, speech())
def test_a_packed_chunk_is_heard_without_its_long_pauses(
    window_s: float, spans: list[Span]
) -> None:
    for chunk in plan(window_s, spans, packed=True):
        assert chunk.parts == shorten_pauses(chunk.speech)


@given(windows_s, speech())
def test_all_of_a_chunk_is_heard_unless_it_is_packed(window_s: float, spans: list[Span]) -> None:
    assert all(chunk.parts == () for chunk in plan(window_s, spans))


def test_spans_are_packed_up_to_the_window_and_cut_in_silence() -> None:
    chunks = plan(10, [seconds(1, 4), seconds(5, 10), seconds(11, 14), seconds(14.5, 15)])

    assert [(chunk.core_start, chunk.core_end, chunk.stride_right) for chunk in chunks] == [
        (1 * SAMPLE_RATE, 10 * SAMPLE_RATE, 0),
        (11 * SAMPLE_RATE, 15 * SAMPLE_RATE, 0),
    ]
    assert [chunk.speech for chunk in chunks] == [
        (seconds(0, 3), seconds(4, 9)),
        (seconds(0, 3), seconds(3.5, 4)),
    ]


def test_pauses_make_no_further_chunk_where_they_are_shortened() -> None:
    spans = [seconds(at, at + 3) for at in range(0, 36, 6)]
    assert len(plan(24, spans)) == 2

    (chunk,) = plan(24, spans, packed=True)

    assert chunk.n_samples == 33 * SAMPLE_RATE
    assert chunk.n_heard_samples == 18 * SAMPLE_RATE + 5 * KEPT_PAUSE_SAMPLES
    assert len(chunk.parts) == 6


def test_a_packed_chunk_reaches_no_further_than_two_windows() -> None:
    spans = [seconds(at, at + 1) for at in range(0, 60, 6)]

    chunks = plan(10, spans, packed=True)

    assert [chunk.core_start // SAMPLE_RATE for chunk in chunks] == [0, 24, 48]
    assert all(chunk.n_heard_samples <= 7 * SAMPLE_RATE for chunk in chunks)


def test_a_long_span_is_cut_where_its_packed_chunk_is_full() -> None:
    audio = NOISE.copy()
    audio[28 * SAMPLE_RATE : int(28.3 * SAMPLE_RATE)] = 0

    first, second = plan(30, [seconds(1, 2), seconds(7, 50)], audio, packed=True)

    n_saved = 5 * SAMPLE_RATE - KEPT_PAUSE_SAMPLES
    assert 28 <= first.core_end / SAMPLE_RATE <= 28.3
    assert first.n_heard_samples == first.n_samples - n_saved
    assert first.parts[-1].end == first.n_samples
    assert second.core_start == first.core_end
    assert second.parts == ()


def test_a_word_before_a_long_span_shares_its_chunk() -> None:
    audio = NOISE.copy()
    audio[24 * SAMPLE_RATE : int(24.3 * SAMPLE_RATE)] = 0

    first, second = plan(30, [seconds(1, 2), seconds(3, 50)], audio)

    assert first.core_start == 1 * SAMPLE_RATE
    assert 24 <= first.core_end / SAMPLE_RATE <= 24.3
    assert first.speech == (seconds(0, 1), Span(2 * SAMPLE_RATE, first.n_samples))
    assert second.core_start == first.core_end
    assert second.speech == ()


def test_a_span_of_exactly_the_window_is_one_chunk() -> None:
    assert plan(10, [seconds(2, 12)]) == [Chunk(0, 2 * SAMPLE_RATE, 12 * SAMPLE_RATE, 0, 0)]


def test_an_overlong_span_is_cut_in_its_quiet_moment_with_overlap() -> None:
    audio = NOISE.copy()
    audio[int(26.0 * SAMPLE_RATE) : int(26.3 * SAMPLE_RATE)] //= 50
    audio[int(10.0 * SAMPLE_RATE) : int(10.3 * SAMPLE_RATE)] = 0  # quieter, but far too early

    first, second = plan(30, [seconds(0, 50)], audio)

    stride = int(MAX_STRIDE_S * SAMPLE_RATE)
    assert 26.0 <= first.core_end / SAMPLE_RATE <= 26.3
    assert second.core_start == first.core_end
    assert (first.stride_left, first.stride_right) == (0, stride)
    assert (second.stride_left, second.stride_right) == (stride, 0)


def test_a_20_ms_closure_does_not_win_over_a_pause() -> None:
    audio = NOISE.copy()
    audio[27 * SAMPLE_RATE : 27 * SAMPLE_RATE + 320] = 0
    audio[25 * SAMPLE_RATE : 25 * SAMPLE_RATE + 4000] //= 20

    first, _ = plan(30, [seconds(0, 50)], audio)

    assert 25 <= first.core_end / SAMPLE_RATE <= 25.25


def test_a_chunk_is_released_while_silence_goes_on() -> None:
    planner = ChunkPlanner(30)
    planner.push(NOISE[: 2 * SAMPLE_RATE], [seconds(1, 2)])
    released = []
    for second in range(2, 10):
        block = np.zeros(SAMPLE_RATE, np.int16)
        released += [(second + 1, chunk) for chunk in planner.push(block, [])]

    assert [chunk.core_end for _, chunk in released] == [2 * SAMPLE_RATE]
    assert released[0][0] <= 2 + MAX_BRIDGE_S + MAX_LAG_SAMPLES / SAMPLE_RATE + 1
    assert planner.finish() == []


def test_silence_is_not_taken_for_the_end_while_a_span_may_still_come() -> None:
    spans = [seconds(1, 2), seconds(4.9, 6)]
    every_half_second = list(range(8000, len(NOISE), 8000))

    chunks = plan(30, spans, ends=every_half_second, lag=MAX_LAG_SAMPLES)

    assert [(chunk.core_start, chunk.core_end) for chunk in chunks] == [
        (1 * SAMPLE_RATE, 6 * SAMPLE_RATE)
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_planner_memory_does_not_grow_with_the_audio(packed: bool) -> None:
    planner = ChunkPlanner(30, packed=packed)
    kept = []
    for second in range(600):
        speaking = second % 200 < 100 and second % 20 < 15
        block = NOISE[:SAMPLE_RATE]
        planner.push(block, [seconds(second, second + 1)] if speaking else [])
        kept.append(len(planner._energies._energies))

    most_s = MAX_PACKED_WINDOWS * 30 + MAX_PACKED_BRIDGE_S if packed else 30 + MAX_BRIDGE_S
    assert max(kept) <= 50 * (most_s + MAX_LAG_SAMPLES / SAMPLE_RATE + 2)


def test_no_speech_gives_no_chunks() -> None:
    assert plan(30, []) == []


def test_a_window_too_short_for_strides_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        ChunkPlanner(0.5)
