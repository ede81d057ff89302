"""What a client is shown of a session's words: their speakers, and the edits."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.live.audio import words
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.live.events import Cause, Final, Partial
from shared.speech.live.requests import LiveAnswer
from shared.speech.live.wording import Wording
from shared.speech.speakers.online import OnlineSpeakers
from shared.speech.speakers.voices import Voice
from shared.speech.transcript.edits import Edits

EDITS = Edits(
    spelling={"long hand": "Longhand", "new york city": "NYC", "uh": ""},
    numerals=True,
    mask=["darn", "Longhand NYC"],
)
VOCABULARY = (
    *("long", "hand", "new", "york", "city", "uh", "darn", "darn,", "say", "Long", "and", "point"),
    *("twenty", "one", "two", "three", "hundred", "thousand", "nineteen", "eighty", "seventy-five"),
)


def heard(text: str) -> tuple[WordHypothesis, ...]:
    return words(text).words


def final(text: str, language: str | None = "en", voices: tuple[Voice, ...] = ()) -> Final:
    said = heard(text)
    answer = LiveAnswer("r", Hypothesis(said, language), voices=voices)
    return Final("s", 0, SAMPLE_RATE, said, language, Cause.ENDPOINT, answer)


def partial(text: str, n_stable: int) -> Partial:
    return Partial("s", heard(text), n_stable, LiveAnswer("r", words(text)))


def test_a_final_is_told_with_its_edits_and_words_keep_their_times() -> None:
    before = final("say long hand, twenty one darn times")

    told = Wording(EDITS).of(before)

    assert isinstance(told, Final)
    assert told.text == "say Longhand, 21 **** times"
    assert [(word.start, word.end) for word in told.words] == [
        *((0, 4_000), (4_000, 12_000), (12_000, 20_000), (20_000, 24_000), (24_000, 28_000))
    ]
    assert told.words[0] == replace(before.words[0], text="say")


def test_numbers_of_other_languages_stay_words() -> None:
    told = Wording(Edits(numerals=True)).of(final("twenty one", "de"))

    assert isinstance(told, Final)
    assert told.text == "twenty one"


def test_without_edits_and_speakers_events_are_told_as_they_are() -> None:
    for event in (final("twenty one"), partial("twenty one", 1)):
        assert Wording().of(event) is event


def test_a_partial_is_stable_up_to_where_an_edit_may_begin() -> None:
    shown = [
        Wording(EDITS).of(partial("say long hand twenty one times a b c", n_stable))
        for n_stable in range(10)
    ]

    assert {each.text for each in shown if isinstance(each, Partial)} == {
        "say Longhand 21 times a b c"
    }
    stable = [each.stable_text for each in shown if isinstance(each, Partial)]
    assert stable[-1] == "say Longhand 21 times"
    assert all(later.startswith(sooner) for sooner, later in itertools.pairwise(stable))


@given(st.lists(st.sampled_from(VOCABULARY), max_size=12))
@example(["long", "hand", "new", "york", "city", "say", "one", "two"])
@example(["two", "hundred", "and", "seventy-five", "point", "three"])
def test_stable_text_only_grows_and_the_final_begins_with_it(spoken: list[str]) -> None:
    wording, text, before = Wording(EDITS), " ".join(spoken), ""
    for n_stable in range(len(spoken) + 1):
        told = wording.of(partial(text, n_stable))
        assert isinstance(told, Partial)
        # What is heard after the stable words may still be something else.
        other = wording.of(partial(" ".join([*spoken[:n_stable], "something", "else"]), n_stable))
        assert isinstance(other, Partial)
        assert other.stable_text == told.stable_text
        assert told.stable_text.startswith(before)
        before = told.stable_text
    ended = wording.of(final(text))
    assert isinstance(ended, Final)
    assert ended.text.startswith(before)


ANNA, BEN = (1.0, 0.0), (0.0, 1.0)


def test_each_word_has_its_speaker_and_the_final_that_of_most_of_it() -> None:
    text = "Good morning everybody here. Hello Anna."
    voices = Voice(ANNA, 3.0, ((0.0, 1.0),)), Voice(BEN, 2.0, ((1.0, 1.6),))
    wording = Wording(Edits(spelling={"good morning": "Hi"}), OnlineSpeakers())

    told = wording.of(final(text, voices=voices))

    assert isinstance(told, Final)
    assert told.text == "Hi everybody here. Hello Anna."
    assert told.speakers == (0, 0, 0, 1, 1)
    assert told.speaker == 0


@pytest.mark.parametrize(
    "voices", [(), (Voice(ANNA, 0.5, ((0.0, 1.0),)),)], ids=["nobody heard", "too short"]
)
def test_nobody_is_named_where_nobody_can_say(voices: tuple[Voice, ...]) -> None:
    told = Wording(None, OnlineSpeakers()).of(final("Hello there.", voices=voices))

    assert isinstance(told, Final)
    assert told.speakers == (None, None)
    assert told.speaker is None
