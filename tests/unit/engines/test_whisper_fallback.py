"""Whisper's fallback, with decoders that say what the test wants."""

import random
from collections.abc import Sequence
from pathlib import Path

from worker.engines.whisper.fallback import (
    KEPT_RUN_TOKENS,
    TEMPERATURES,
    Attempt,
    Outcome,
    Segment,
    settle,
)

TESTS = Path(__file__).parents[2]
WORDS = (TESTS / "models" / "words.txt").read_text().split()
HELDOUT = [path.read_text() for path in sorted((TESTS / "models" / "heldout").glob("*.txt"))]
NATURAL = [
    "no no no",
    "well no no no I did not say that",
    "very very very good",
    "ha ha ha that is funny",
    "one two three four five six seven eight nine ten eleven twelve",
    "twenty one twenty two twenty three twenty four twenty five twenty six twenty seven",
    "ten nine eight seven six five four three two one zero",
    "yes yes I know I know what you mean you know",
    "we shall fight on the beaches we shall fight on the landing grounds we shall fight in fields",
    "row row row your boat gently down the stream",
    "bye bye bye see you tomorrow",
    "that that is is that that is not is not is that it it is",
    "knock knock who is there",
    "left right left right left right halt",
]
GOOD, GUESSED = -0.3, -1.5


def attempt(text: str, avg_logprob: float = GOOD, no_speech_prob: float = 0.0) -> Attempt:
    """One segment; a word is one token."""
    tokens = tuple(hash(word) for word in text.split())
    segments = (Segment(0.0, 9.0, tokens),) if tokens else ()
    return Attempt(segments, text, avg_logprob, no_speech_prob)


class Script:
    """A decoder that gives each item its answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[Attempt]) -> None:
        self.answers = answers
        self.calls: list[tuple[float, list[int]]] = []

    def __call__(self, items: Sequence[int], temperature: float) -> list[Attempt]:
        n_before = len(self.calls)
        self.calls.append((temperature, list(items)))
        return [self.answers[i][min(n_before, len(self.answers[i]) - 1)] for i in items]

    def run(self) -> list[Outcome]:
        """Decode the items, those that are not settled again at the next temperature."""
        outcomes: dict[int, Outcome] = {}
        attempts: list[list[Attempt]] = [[] for _ in self.answers]
        for temperature in TEMPERATURES:
            failing = [i for i in range(len(self.answers)) if i not in outcomes]
            if not failing:
                break
            for i, made in zip(failing, self(failing, temperature), strict=True):
                attempts[i].append(made)
                if (outcome := settle(attempts[i])) is not None:
                    outcomes[i] = outcome
        return [outcomes[i] for i in range(len(self.answers))]


def words_of(outcome: Outcome) -> int:
    return sum(len(segment.tokens) for segment in outcome.segments)


def random_loop(rng: random.Random) -> str:
    """A period of 1 to 8 words, 4 to 60 times, in the middle of other words."""
    period, before, after = (
        rng.sample(WORDS, rng.randint(*ends)) for ends in [(1, 8), (0, 20), (0, 20)]
    )
    return " ".join([*before, *(period * rng.randint(4, 60)), *after])


def test_loops_in_a_mixed_batch_are_decoded_again_and_nothing_else_is() -> None:
    rng = random.Random(5)
    normal = (
        HELDOUT + NATURAL + [" ".join(rng.choices(WORDS, k=rng.randint(1, 90))) for _ in range(274)]
    )
    looping = [random_loop(rng) for _ in range(500)]
    items = [(text, False) for text in normal] + [(text, True) for text in looping]
    rng.shuffle(items)
    healed = attempt("hello world")
    script = Script(*([attempt(text), healed] for text, _ in items))

    script.run()

    again = set(script.calls[1][1])
    loops = {i for i, (_, loops) in enumerate(items) if loops}
    assert len(normal) >= 300
    assert len(loops & again) >= 0.99 * len(loops)
    assert len(again - loops) < 0.01 * len(normal)


def test_no_natural_text_is_taken_for_a_loop() -> None:
    script = Script(*([attempt(text)] for text in HELDOUT + NATURAL))

    outcomes = script.run()

    assert len(script.calls) == 1
    assert not any(outcome.loop_suspected for outcome in outcomes)


def test_only_failing_items_are_decoded_again_together_until_they_pass() -> None:
    loop, guess = attempt("go left " * 20), attempt("hello world", GUESSED)
    fine = attempt("white south morning")
    script = Script([fine], [loop, loop, fine], [guess, fine], [fine], [loop, guess, guess, fine])

    outcomes = script.run()

    assert script.calls == [
        (0.0, [0, 1, 2, 3, 4]),
        (0.2, [1, 2, 4]),
        (0.4, [1, 4]),
        (0.6, [4]),
    ]
    assert outcomes == [
        Outcome(fine.segments, loop_suspected=False, chosen=chosen) for chosen in (0, 2, 1, 0, 3)
    ]


def test_guessed_speech_is_dropped_as_silence_at_once() -> None:
    script = Script([attempt("thank you", GUESSED, no_speech_prob=0.9)])

    assert script.run() == [Outcome((), loop_suspected=False)]
    assert len(script.calls) == 1


def test_likely_words_are_kept_whatever_the_probability_of_silence() -> None:
    script = Script([attempt("thank you", GOOD, no_speech_prob=0.9)])

    assert words_of(script.run()[0]) == 2


def test_guess_that_never_gets_better_ends_as_its_likeliest_attempt() -> None:
    tries = [attempt(f"word{i}", GUESSED - abs(i - 3)) for i in range(len(TEMPERATURES))]
    script = Script(tries)

    outcomes = script.run()

    assert [temperature for temperature, _ in script.calls] == list(TEMPERATURES)
    assert outcomes == [Outcome(tries[3].segments, loop_suspected=False, chosen=3)]


def test_text_without_a_loop_is_taken_before_a_likelier_loop() -> None:
    guess = attempt("hello world", GUESSED)
    script = Script([attempt("go left " * 20), guess, attempt("go left " * 20)])

    assert script.run() == [Outcome(guess.segments, loop_suspected=False, chosen=1)]


def test_loop_that_stays_is_cut_to_its_first_occurrence_and_reported() -> None:
    script = Script([attempt("hello world " + "please go left now " * 30 + "please wait")])

    (outcome,) = script.run()

    assert outcome.loop_suspected
    assert outcome.segments == attempt("hello world please go left now please wait").segments


def test_loop_cut_off_by_the_end_leaves_no_stump() -> None:
    script = Script([attempt("hello world " + "please go left now " * 30 + "please go")])

    assert script.run()[0].segments == attempt("hello world please go left now").segments


def test_loop_over_segments_leaves_the_first_ones_times() -> None:
    tokens = (1, 2, 3)
    segments = tuple(Segment(i, i + 1.0, tokens) for i in range(10))
    script = Script([Attempt(segments, "thank you all " * 10, GOOD, 0.0)])

    assert script.run() == [Outcome((Segment(0, 1.0, tokens),), loop_suspected=True)]


def test_short_repetition_that_stays_is_reported_but_not_cut() -> None:
    script = Script([attempt("no " * (KEPT_RUN_TOKENS - 1))])

    (outcome,) = script.run()

    assert outcome.loop_suspected
    assert words_of(outcome) == KEPT_RUN_TOKENS - 1


def test_nothing_to_decode_asks_nothing() -> None:
    script = Script()

    assert script.run() == []
    assert script.calls == []
