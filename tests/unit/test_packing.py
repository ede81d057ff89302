"""Chunks without their long pauses: what is heard, and where its words are put back."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.chunks import SAMPLE_RATE, Chunk, Hypothesis, WordHypothesis
from shared.speech.packing import KEPT_PAUSE_SAMPLES, Packing, packing_of, shorten_pauses
from shared.speech.spans import Span

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


def samples_heard(packing: Packing, n_samples: int) -> list[int]:
    """Return, for each sample of the item, which one it is of the chunk or slice."""
    return [int(at) for at in packing.pack(np.arange(n_samples, dtype=np.float32))]


def unpack(packing: Packing, *words: tuple[int, int]) -> list[tuple[int, int]]:
    heard = tuple(WordHypothesis(" word", start, end, 0.5) for start, end in words)
    return [(word.start, word.end) for word in packing.unpack(Hypothesis(heard)).words]


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
    packing = packing_of(chunk, heard)
    places = samples_heard(packing, heard.end - heard.start)
    at = data.draw(st.integers(0, len(places) - 1))

    assert unpack(packing, (at, at + 1)) == [(places[at], places[at] + 1)]
    assert unpack(packing, (at, at)) == [(places[at], places[at])]
    end = places[-1] + 1
    assert unpack(packing, (len(places), len(places))) == [(end, end)]


@given(slices(), st.data())
def test_no_word_spans_a_joint_or_leaves_its_order(
    drawn: tuple[Chunk, Span], data: st.DataObject
) -> None:
    chunk, heard = drawn
    packing = packing_of(chunk, heard)
    places = np.array(samples_heard(packing, heard.end - heard.start))
    borders = data.draw(st.lists(st.integers(0, len(places)), min_size=2, max_size=8).map(sorted))
    words = [*pairwise(borders)]

    found = unpack(packing, *words)

    assert [at for word in found for at in word] == sorted(at for word in found for at in word)
    for (start, end), (a, b) in zip(words, found, strict=True):
        own = places[start:end]
        halves = [int(((own >= p.start) & (own < p.end)).sum()) for p in packing.parts]
        assert any(part.start <= a <= b <= part.end for part in packing.parts)
        assert b - a == max(halves)


@given(slices())
def test_a_slice_is_heard_without_the_chunks_long_pauses(drawn: tuple[Chunk, Span]) -> None:
    chunk, heard = drawn
    whole = samples_heard(packing_of(chunk), chunk.n_samples)
    expected = [at - heard.start for at in whole if heard.start <= at < heard.end]

    assert samples_heard(packing_of(chunk, heard), heard.end - heard.start) == expected


def test_a_chunk_without_long_pauses_is_heard_as_it_is() -> None:
    speech = (Span(0, 100), Span(100 + KEPT_PAUSE_SAMPLES, 10_000))
    chunk = Chunk(0, 0, 10_000, 0, 0, speech=speech, parts=shorten_pauses(speech))
    samples = np.random.default_rng(0).normal(size=10_000).astype(np.float32)

    assert chunk.parts == ()
    assert shorten_pauses([Span(0, 100)]) == ()
    assert np.array_equal(packing_of(chunk).pack(samples), samples)
    assert unpack(packing_of(chunk), (0, 90), (9_000, 10_000)) == [(0, 90), (9_000, 10_000)]


def test_what_else_an_engine_said_is_kept() -> None:
    speech = (Span(0, SAMPLE_RATE), Span(5 * SAMPLE_RATE, 6 * SAMPLE_RATE))
    chunk = Chunk(0, 0, 6 * SAMPLE_RATE, 0, 0, speech=speech, parts=shorten_pauses(speech))
    word = WordHypothesis(" again", SAMPLE_RATE + KEPT_PAUSE_SAMPLES, SAMPLE_RATE * 2, 0.7)
    heard = Hypothesis((word,), "en", 0.9, loop_suspected=True)

    found = packing_of(chunk).unpack(heard)

    at = (5 - 1) * SAMPLE_RATE - KEPT_PAUSE_SAMPLES
    moved = replace(word, start=word.start + at, end=word.end + at)
    assert found == replace(heard, words=(moved,))
