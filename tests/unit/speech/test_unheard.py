"""What was left unheard, what is heard again, and which answer wins."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.audio.levels import FRAME_SAMPLES, find_sound
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.chunks.unheard import (
    CONTEXTS_SAMPLES,
    LEAST_UNHEARD_SAMPLES,
    MAX_ROUNDS,
    Listening,
    covered,
    find_unheard,
    splice,
)
from shared.speech.chunks.word_bounds import MAX_WORD_SAMPLES, bound_words

WORD_SAMPLES = SAMPLE_RATE * 44 // 100
GAP_SAMPLES = SAMPLE_RATE // 10
N_WORDS = 24


def speak(n_words: int = N_WORDS) -> tuple[Samples, list[WordHypothesis]]:
    """Return words of 440 ms with a short gap after each, as noise, and their times."""
    rng = np.random.default_rng(3)
    samples = np.zeros(n_words * (WORD_SAMPLES + GAP_SAMPLES), np.float32)
    words = []
    for at in range(n_words):
        start = at * (WORD_SAMPLES + GAP_SAMPLES)
        end = start + WORD_SAMPLES
        samples[start:end] = rng.normal(0, 0.1, WORD_SAMPLES)
        words.append(WordHypothesis(f" w{at}", start, end, 0.9))
    return samples, words


SAMPLES, WORDS = speak()


def chunk_of(samples: Samples, **changes: int) -> Chunk:
    return replace(Chunk(0, 0, len(samples), 0, 0), **changes)


def hear(heard: Span, words: Sequence[WordHypothesis] = WORDS) -> Hypothesis:
    """Return what a perfect model hears in a slice."""
    inside = [word for word in words if heard.start <= word.start and word.end <= heard.end]
    return Hypothesis(
        tuple(
            replace(word, start=word.start - heard.start, end=word.end - heard.start)
            for word in inside
        )
    )


def listen(listening: Listening, answer: object = hear) -> list[list[Span]]:
    """Answer every round; return the slices of each."""
    rounds = []
    while slices := listening.next_slices():
        rounds.append(slices)
        listening.take([answer(heard) for heard in slices])  # type: ignore[operator]
    return rounds


def texts(words: Sequence[WordHypothesis]) -> list[str]:
    return [word.text for word in words]


left_out = st.sets(st.integers(0, N_WORDS - 1), max_size=N_WORDS)


@given(left_out)
def test_whatever_a_model_leaves_out_is_heard_again_and_joined_once(missing: set[int]) -> None:
    first = [word for at, word in enumerate(WORDS) if at not in missing]
    listening = Listening(chunk_of(SAMPLES), SAMPLES, Hypothesis(tuple(first)))

    rounds = listen(listening)

    assert len(rounds) <= MAX_ROUNDS
    heard = listening.hypothesis
    if len(missing) < N_WORDS:  # else the whole chunk would be heard again as it was
        assert heard.unheard == ()
    known = texts(WORDS)
    assert [known.index(text) for text in texts(heard.words)] == sorted(
        {known.index(text) for text in texts(heard.words)}
    )
    assert set(texts(first)) <= set(texts(heard.words))
    assert all(a.end <= b.start for a, b in pairwise(heard.words))


@given(left_out)
def test_stretches_are_sound_without_words_and_long_enough(missing: set[int]) -> None:
    words = [word for at, word in enumerate(WORDS) if at not in missing]
    sound = find_sound(SAMPLES, ())

    stretches = find_unheard(words, sound, sound)

    is_covered = covered(words, len(sound))
    for stretch in stretches:
        frames = slice(stretch.start // FRAME_SAMPLES, stretch.end // FRAME_SAMPLES)
        assert not is_covered[frames].any()
        assert sound[frames].sum() * FRAME_SAMPLES >= LEAST_UNHEARD_SAMPLES
        assert sound[frames][0]
        assert sound[frames][-1]
    runs = "".join("x" if at in missing else " " for at in range(N_WORDS)).split()
    assert len(stretches) == sum(len(run) >= 3 for run in runs)


def test_nothing_is_heard_again_where_every_word_was_heard() -> None:
    listening = Listening(chunk_of(SAMPLES), SAMPLES, Hypothesis(tuple(WORDS)))

    assert listening.next_slices() == []
    assert listening.hypothesis == Hypothesis(tuple(WORDS))


def test_a_pause_is_not_unheard() -> None:
    pause = np.random.default_rng(4).normal(0, 1e-4, 5 * SAMPLE_RATE).astype(np.float32)
    samples = np.concatenate([SAMPLES, pause])
    listening = Listening(chunk_of(samples), samples, Hypothesis(tuple(WORDS)))

    assert listening.next_slices() == []


def test_steady_noise_is_not_unheard() -> None:
    noise = np.random.default_rng(5).normal(0, 0.05, 10 * SAMPLE_RATE).astype(np.float32)
    listening = Listening(chunk_of(noise), noise, Hypothesis(()))

    assert listening.next_slices() == []
    assert listening.hypothesis.unheard == ()


def test_sound_outside_of_the_detected_speech_is_not_unheard() -> None:
    only_heard = Span(0, WORDS[11].end)
    chunk = replace(chunk_of(SAMPLES), speech=(only_heard,))
    listening = Listening(chunk, SAMPLES, Hypothesis(tuple(WORDS[:12])))

    assert listening.next_slices() == []


def test_a_stride_without_words_is_left_to_the_neighbour() -> None:
    stride = len(SAMPLES) - WORDS[-4].start
    chunk = chunk_of(SAMPLES, core_end=len(SAMPLES) - stride, stride_right=stride)
    listening = Listening(chunk, SAMPLES, Hypothesis(tuple(WORDS[:-4])))

    assert listening.next_slices() == []


def test_a_stretch_that_reaches_into_a_stride_is_filled_there_too() -> None:
    stride = len(SAMPLES) - WORDS[-4].start
    chunk = chunk_of(SAMPLES, core_end=len(SAMPLES) - stride, stride_right=stride)
    listening = Listening(chunk, SAMPLES, Hypothesis(tuple(WORDS[:-8])))

    listen(listening)

    assert texts(listening.hypothesis.words) == texts(WORDS)


def test_a_stretch_is_heard_with_speech_on_both_sides_then_alone() -> None:
    first = [*WORDS[:8], *WORDS[14:]]
    listening = Listening(chunk_of(SAMPLES), SAMPLES, Hypothesis(tuple(first)))

    rounds = listen(listening, lambda _: Hypothesis(()))

    stretch = Span(WORDS[8].start, WORDS[13].end)
    assert [len(slices) for slices in rounds] == [1, 1]
    for (heard,), context in zip(rounds, CONTEXTS_SAMPLES, strict=True):
        assert 0 <= stretch.start - context - heard.start <= FRAME_SAMPLES
        assert abs(heard.end - stretch.end - context) <= FRAME_SAMPLES
    (unheard,) = listening.hypothesis.unheard
    assert abs(unheard.start - stretch.start) <= 2 * FRAME_SAMPLES + SAMPLE_RATE // 10
    assert abs(unheard.end - stretch.end) <= 2 * FRAME_SAMPLES + SAMPLE_RATE // 10
    assert listening.hypothesis.words == tuple(first)


def test_an_answer_that_repeats_itself_is_not_kept() -> None:
    first = Hypothesis(tuple(WORDS[:12]))
    listening = Listening(chunk_of(SAMPLES), SAMPLES, first)

    listen(listening, lambda heard: replace(hear(heard), loop_suspected=True))

    assert listening.hypothesis.words == first.words
    assert listening.hypothesis.unheard


def test_an_answer_that_the_model_guessed_is_not_kept() -> None:
    first = Hypothesis(tuple(WORDS[:12]))
    listening = Listening(chunk_of(SAMPLES), SAMPLES, first)
    guessed = [replace(word, confidence=0.2) for word in WORDS]

    listen(listening, lambda heard: hear(heard, guessed))

    assert listening.hypothesis.words == first.words


def test_an_answer_without_confidence_is_kept_by_what_it_covers() -> None:
    listening = Listening(chunk_of(SAMPLES), SAMPLES, Hypothesis(tuple(WORDS[:12])))
    unsure = [replace(word, confidence=None) for word in WORDS]

    listen(listening, lambda heard: hear(heard, unsure))

    assert texts(listening.hypothesis.words) == texts(WORDS)


def test_a_chunk_in_which_the_model_repeated_itself_is_not_heard_again() -> None:
    looping = Hypothesis(tuple(WORDS[:4]), loop_suspected=True)

    assert Listening(chunk_of(SAMPLES), SAMPLES, looping).next_slices() == []


def test_splicing_keeps_the_spelling_around_the_stretch_and_scripts_without_spaces() -> None:
    second = SAMPLE_RATE
    words = [
        WordHypothesis("你", 0, second, 0.9),
        WordHypothesis("吗", 5 * second, 6 * second, 0.9),
    ]
    answer = [WordHypothesis(" 好", second, 2 * second)]

    joined = splice(words, answer, Span(second, 5 * second), Span(second, 5 * second), 6 * second)

    assert texts(joined) == ["你", "好", "吗"]
    assert joined[1].start == 2 * second


@given(st.integers(0, 3), st.integers(0, 3))
def test_a_long_word_ends_up_on_its_sound_and_no_longer_than_a_word(
    before_s: int, after_s: int
) -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    samples = np.concatenate([*[silence] * before_s, SAMPLES[:WORD_SAMPLES], *[silence] * after_s])
    stretched = WordHypothesis(" only.", 0, len(samples), 0.9)

    (word,) = bound_words([stretched], find_sound(samples, ()))

    if len(samples) <= MAX_WORD_SAMPLES:
        assert word == stretched
    else:
        start = before_s * SAMPLE_RATE
        assert abs(word.start - start) <= FRAME_SAMPLES
        assert abs(word.end - start - WORD_SAMPLES) <= FRAME_SAMPLES


def test_a_word_that_hides_unheard_speech_is_cut_short() -> None:
    stretched = WordHypothesis(" so", WORDS[5].start, WORDS[16].end, 0.9)
    first = (*WORDS[:5], stretched, *WORDS[17:])

    listening = Listening(chunk_of(SAMPLES), SAMPLES, Hypothesis(first))

    assert listening.hypothesis.words[5].end - stretched.start <= MAX_WORD_SAMPLES
    assert len(listening.next_slices()) == 1
