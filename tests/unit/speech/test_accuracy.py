"""Error rates: normalisation, counts, and what cannot be measured."""

import threading
import time

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.infra.errors import InvalidRequest
from shared.speech.text.accuracy import (
    MAX_REFERENCE_CHARS,
    Accuracy,
    check_reference,
    measure,
    measure_within,
    normalize,
)

WORDS = st.lists(st.sampled_from(["a", "an", "ant", "tan", "nat"]), max_size=12).map(" ".join)


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("  Hello,\n WORLD! ", "hello world"),
        ("don't, Don\u2019t and O\u02bcNeil", "dont dont and oneil"),
        ("well-known … e.g. 50 % & more", "well known e g 50 more"),
        ("\ufb01ve \uff12\uff10 cafe\u0301", "five 20 caf\u00e9"),
        ("co\u00adop \u0645\u06cc\u200c\u062e", "coop \u0645\u06cc\u062e"),
        ("क्षत्रिय, हिन्दी।", "क्षत्रिय हिन्दी"),
        ("twenty 20 do not", "twenty 20 do not"),
        ("?!…", ""),
    ],
)
def test_texts_are_compared_without_case_punctuation_and_spacing(
    written: str, compared: str
) -> None:
    assert normalize(written) == compared


def test_errors_are_counted_against_the_reference() -> None:
    assert measure("The cat sat.", "the hat sat down", "en") == Accuracy(
        wer=0.6667, cer=0.5455, words=3, word_errors=2, characters=11, character_errors=6
    )


def test_equal_speech_has_no_errors_however_it_is_written() -> None:
    accuracy = measure("Don't stop; it's 3 o'clock!", "dont stop its 3 o\u2019clock", "en")
    assert (accuracy.wer, accuracy.cer) == (0.0, 0.0)


def test_a_transcript_without_words_misses_all_and_one_too_long_exceeds_one() -> None:
    assert measure("one two", "", None).wer == 1.0
    assert measure("one", "one two three four", None).wer == 3.0


@pytest.mark.parametrize("language", ["ja", "zh", "yue", "th"])
def test_where_nothing_separates_words_each_character_is_one(language: str) -> None:
    accuracy = measure("今日は、良い 天気", "今日も良い天気", language)
    assert (accuracy.words, accuracy.word_errors) == (7, 1)
    assert accuracy.wer == accuracy.cer == 0.1429


@given(said=WORDS.filter(bool), heard=WORDS)
def test_rates_are_those_of_jiwer(said: str, heard: str) -> None:
    accuracy = measure(said, heard, "en")
    assert accuracy.wer == round(jiwer.wer(said, heard), 4)
    assert accuracy.cer == round(jiwer.cer(said, heard), 4)


@given(said=WORDS.filter(bool), heard=WORDS, max_cells=st.integers(0, 1000))
def test_a_bound_on_the_computing_gives_the_exact_rates_or_none(
    said: str, heard: str, max_cells: int
) -> None:
    accuracy = measure_within(said, heard, "en", max_cells=max_cells)
    assert accuracy in (None, measure(said, heard, "en"))
    if len(said) * len(heard) <= max_cells:
        assert accuracy is not None


def test_of_long_texts_only_those_that_are_alike_are_measured_within_a_bound() -> None:
    said = " ".join(f"word{number}" for number in range(5_000))
    alike = said.replace("word7", "ward7")
    unlike = " ".join(f"else{number}" for number in range(5_000))
    bound = len(said) * 2_000

    assert measure_within(said, alike, "en", max_cells=bound) == measure(said, alike, "en")
    assert measure_within(said, unlike, "en", max_cells=bound) is None


ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(
    said=ANY_TEXT.map(lambda text: f"a{text}"),
    heard=ANY_TEXT,
    language=st.sampled_from(["en", "ja"]),
)
def test_rates_are_those_of_jiwer_in_every_script(said: str, heard: str, language: str) -> None:
    reference, compared = normalize(said), normalize(heard)
    accuracy = measure(said, heard, language)
    if language == "ja":
        reference, compared = reference.replace(" ", ""), compared.replace(" ", "")
    assert accuracy.cer == round(jiwer.cer(reference, compared), 4)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("", "no words"),
        (" \n?!… ", "no words"),
        ("a\0b", "NUL"),
        ("a" * (MAX_REFERENCE_CHARS + 1), "longer than 2,000,000"),
    ],
    ids=["empty", "punctuation", "nul", "long"],
)
def test_nothing_is_measured_against_a_reference_that_is_none(reference: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        check_reference(reference)
    with pytest.raises(InvalidRequest, match=reason):
        measure(reference, "a", None)


def test_other_threads_go_on_while_long_texts_are_compared() -> None:
    said = " ".join(f"w{number % 977}" for number in range(30_000))
    heard = " ".join(f"v{number % 983}" for number in range(30_000))

    def longest_pause() -> float:
        """Return this thread's longest pause meanwhile, as a share of all the time."""
        longest_s, done = 0.0, threading.Event()

        def measure_it() -> None:
            measure(said, heard, None)
            done.set()

        began = time.monotonic()
        thread = threading.Thread(target=measure_it)
        thread.start()
        last = began
        while not done.wait(0.001):
            longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()
        thread.join()
        return longest_s / (time.monotonic() - began)

    # The machine may stand still meanwhile, but not each time.
    assert any(longest_pause() < 1 / 3 for _ in range(4))
