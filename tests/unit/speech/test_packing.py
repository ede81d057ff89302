"""Chunks without their long pauses: what is heard, and where its words are put back."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.chunks.packing import KEPT_PAUSE_SAMPLES, Packed, pack, shorten_pauses

pauses = st.one_of(
    st.integers(1, KEPT_PAUSE_SAMPLES),
    st.sampled_from([KEPT_PAUSE_SAMPLES, KEPT_PAUSE_SAMPLES + 1]),
    st.integers(KEPT_PAUSE_SAMPLES, 10 * SAMPLE_RATE),
)


@st.composite
def packed_chunks(draw: st.DrawFn) -> Chunk:
    """A chunk with spans of speech from its first sample to its last one."""
    speech, end = [], 0
    for length, pause in draw(
        st.lists(st.tuples(st.integers(1, 3000), pauses), min_size=1, max_size=6)
    ):
        speech.append(Span(end, end + length))
        end += length + pause
    parts = shorten_pauses(speech)
    return Chunk(0, 0, speech[-1].end, 0, 0, speech=tuple(speech), parts=parts)


@st.composite
def slices(draw: st.DrawFn) -> tuple[Chunk, Span]:
    """A packed chunk and a slice of it that holds some speech."""
    chunk = draw(packed_chunks())
    speech = draw(st.sampled_from(chunk.speech))
    start = draw(st.integers(0, speech.end - 1))
    end = draw(st.integers(max(start, speech.start) + 1, chunk.n_samples))
    return chunk, Span(start, end)


def numbered(chunk: Chunk) -> Samples:
    return np.arange(chunk.n_samples, dtype=np.float32)


def silent(chunk: Chunk) -> Samples:
    return np.zeros(chunk.n_samples, np.float32)


def unpack(packed: Packed, *words: tuple[int, int]) -> list[tuple[int, int]]:
    heard = tuple(WordHypothesis(" word", start, end, 0.5) for start, end in words)
    return [(word.start, word.end) for word in packed.unpack(Hypothesis(heard)).words]


@given(packed_chunks())
def test_all_speech_is_heard_and_every_pause_up_to_what_is_kept(chunk: Chunk) -> None:
    is_heard = np.zeros(chunk.n_samples, bool)
    for part in chunk.heard:
        assert not is_heard[part.start : part.end].any()
        is_heard[part.start : part.end] = True

    assert all(is_heard[span.start : span.end].all() for span in chunk.speech)
    for left, right in pairwise(chunk.speech):
        pause = right.start - left.end
        n_heard = int(is_heard[left.end : right.start].sum())
        assert n_heard == (pause if pause <= KEPT_PAUSE_SAMPLES else KEPT_PAUSE_SAMPLES)
    assert chunk.n_heard_samples == is_heard.sum()


@given(slices(), st.data())
def test_every_sample_of_an_item_is_found_again_where_it_was(
    drawn: tuple[Chunk, Span], data: st.DataObject
) -> None:
    chunk, heard = drawn
    packed = pack(chunk, silent(chunk), heard)
    places = [int(at) - heard.start for at in pack(chunk, numbered(chunk), heard).item]
    at = data.draw(st.integers(0, len(places) - 1))

    assert unpack(packed, (at, at + 1)) == [(places[at], places[at] + 1)]
    assert unpack(packed, (at, at)) == [(places[at], places[at])]
    end = places[-1] + 1
    assert unpack(packed, (len(places), len(places))) == [(end, end)]


@given(slices(), st.data())
def test_no_word_spans_a_joint_or_leaves_its_order(
    drawn: tuple[Chunk, Span], data: st.DataObject
) -> None:
    chunk, heard = drawn
    packed = pack(chunk, silent(chunk), heard)
    places = pack(chunk, numbered(chunk), heard).item.astype(int) - heard.start
    borders = data.draw(st.lists(st.integers(0, len(places)), min_size=2, max_size=8).map(sorted))
    words = [*pairwise(borders)]

    found = unpack(packed, *words)

    assert [at for word in found for at in word] == sorted(at for word in found for at in word)
    for (start, end), (a, b) in zip(words, found, strict=True):
        own = places[start:end]
        halves = [int(((own >= p.start) & (own < p.end)).sum()) for p in packed.parts]
        assert any(part.start <= a <= b <= part.end for part in packed.parts)
        assert b - a == max(halves)


@given(slices())
def test_a_slice_is_heard_without_the_chunks_long_pauses(drawn: tuple[Chunk, Span]) -> None:
    chunk, heard = drawn
    whole = pack(chunk, numbered(chunk)).item
    expected = whole[(whole >= heard.start) & (whole < heard.end)]

    assert np.array_equal(pack(chunk, numbered(chunk), heard).item, expected)


def test_a_chunk_without_long_pauses_is_heard_as_it_is() -> None:
    speech = (Span(0, 100), Span(100 + KEPT_PAUSE_SAMPLES, 10_000))
    chunk = Chunk(0, 0, 10_000, 0, 0, speech=speech, parts=shorten_pauses(speech))
    samples = np.random.default_rng(0).normal(size=10_000).astype(np.float32)

    assert chunk.parts == ()
    assert shorten_pauses([Span(0, 100)]) == ()
    assert np.array_equal(pack(chunk, samples).item, samples)
    assert unpack(pack(chunk, samples), (0, 90), (9_000, 10_000)) == [(0, 90), (9_000, 10_000)]


def test_what_else_an_engine_said_is_kept() -> None:
    speech = (Span(0, SAMPLE_RATE), Span(5 * SAMPLE_RATE, 6 * SAMPLE_RATE))
    chunk = Chunk(0, 0, 6 * SAMPLE_RATE, 0, 0, speech=speech, parts=shorten_pauses(speech))
    word = WordHypothesis(" again", SAMPLE_RATE + KEPT_PAUSE_SAMPLES, SAMPLE_RATE * 2, 0.7)
    heard = Hypothesis((word,), "en", 0.9, loop_suspected=True)

    found = pack(chunk, silent(chunk)).unpack(heard)

    at = (5 - 1) * SAMPLE_RATE - KEPT_PAUSE_SAMPLES
    moved = replace(word, start=word.start + at, end=word.end + at)
    assert found == replace(heard, words=(moved,))


def paused(*sounds: Span, length_s: float = 9) -> Packed:
    """A chunk with speech to 2 s and from 7 s on, and with sound in these spans."""
    n_samples = round(length_s * SAMPLE_RATE)
    speech = (Span(0, 2 * SAMPLE_RATE), Span(7 * SAMPLE_RATE, n_samples))
    chunk = Chunk(0, 0, n_samples, 0, 0, speech=speech, parts=shorten_pauses(speech))
    samples = np.zeros(n_samples, np.float32)
    for sound in sounds:
        noise = np.random.default_rng(1).normal(0, 0.1, sound.end - sound.start)
        samples[sound.start : sound.end] = noise
    return pack(chunk, samples)


def seconds(start: float, end: float) -> Span:
    return Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))


def unpack_s(packed: Packed, *words: tuple[float, float]) -> list[tuple[float, float]]:
    """Unpack words with times in seconds. In the item, the second span begins at 3 s."""
    in_samples = [(round(a * SAMPLE_RATE), round(b * SAMPLE_RATE)) for a, b in words]
    return [(a / SAMPLE_RATE, b / SAMPLE_RATE) for a, b in unpack(packed, *in_samples)]


def test_a_word_that_was_put_at_the_end_of_a_pause_goes_back_before_it() -> None:
    packed = paused(seconds(0.4, 1.2), seconds(7.4, 9))

    assert unpack_s(packed, (2.7, 3.3), (3.4, 4)) == [(0.6, 1.2), (7.4, 8)]
    # The beginning of the next word does not hold it.
    assert unpack_s(packed, (2.9, 3.5), (3.5, 4)) == [(0.6, 1.2), (7.5, 8)]


def test_a_word_that_was_put_at_the_beginning_of_a_pause_goes_after_it() -> None:
    packed = paused(seconds(0.4, 1.2), seconds(7.4, 9))

    assert unpack_s(packed, (0.4, 1.2), (1.4, 2), (4, 5)) == [(0.4, 1.2), (7.4, 8), (8, 9)]


def test_a_word_in_a_pause_stays_where_all_sound_beside_it_has_words() -> None:
    packed = paused(seconds(0.4, 1.2), seconds(7.4, 9))

    assert unpack_s(packed, (0.4, 1.2), (1.5, 1.9), (3.4, 5)) == [(0.4, 1.2), (1.5, 1.9), (7.4, 9)]


def test_a_word_over_a_joint_is_cut_to_the_part_with_most_of_its_sound() -> None:
    packed = paused(seconds(0.4, 2.3), seconds(7.4, 9))

    assert unpack_s(packed, (1.9, 3.3)) == [(1.9, 2.5)]  # though more of it lies after the joint
