"""Which words of a growing text stay."""

from dataclasses import replace

from harness.live.audio import words as hypothesis
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.live.agreement import Agreement
from shared.speech.live.words import text_of

END = 1_000_000


def heard(text: str, start: int = 0) -> list[WordHypothesis]:
    """Return words of a quarter of a second each."""
    return [*hypothesis(text, start).words]


def committed(agreement: Agreement) -> str:
    return text_of(agreement.committed)


def test_words_that_three_hearings_in_a_row_agree_on_are_committed() -> None:
    agreement = Agreement()
    agreement.update(heard("the cat sat"), 0, END)
    agreement.update(heard("the cat sang"), 0, END)
    assert (committed(agreement), agreement.n_agreed) == ("", 2)

    agreement.update(heard("the cat sang a song"), 0, END)

    assert (committed(agreement), agreement.n_agreed) == ("the cat", 3)
    assert text_of(agreement.words) == "the cat sang a song"


def test_a_word_of_which_the_model_is_unsure_takes_four_hearings() -> None:
    unsure = [replace(word, confidence=0.4) for word in heard("the")] + heard("cat sat", 4_000)
    agreement = Agreement()
    for _ in range(3):
        agreement.update(unsure, 0, END)
    assert (committed(agreement), agreement.n_agreed) == ("", 3)

    agreement.update(unsure, 0, END)

    assert committed(agreement) == "the cat sat"


def test_case_and_punctuation_do_not_matter_and_the_newest_spelling_is_kept() -> None:
    agreement = Agreement()
    for text in ("well. i see", "well i see", "Well, I see."):
        agreement.update(heard(text), 0, END)

    assert committed(agreement) == "Well, I see."


def test_words_near_the_end_of_the_audio_are_not_committed() -> None:
    agreement = Agreement()
    for _ in range(3):
        agreement.update(heard("the cat sat"), 0, 8_000)

    assert committed(agreement) == "the cat"


def test_committed_words_are_not_taken_back_by_a_hearing_without_them() -> None:
    agreement = Agreement()
    for text in (*["the cat sat on"] * 3, "a hat sat on the mat", ""):
        agreement.update(heard(text), 0, END)

    assert committed(agreement) == "the cat sat on"
    assert text_of(agreement.words) == "the cat sat on"


def test_a_final_goes_on_where_the_committed_words_end() -> None:
    agreement = Agreement()
    for text in ("she sells sea", "she sells sea shells", "she sells sea shells"):
        agreement.update(heard(text), 0, END)

    whole = agreement.complete(heard("He sells C shells by the shore"), 0)

    assert text_of(whole) == "she sells sea shells by the shore"


def test_a_word_that_is_said_twice_is_not_taken_for_one() -> None:
    agreement = Agreement()
    for _ in range(3):
        agreement.update(heard("no"), 0, END)

    assert text_of(agreement.complete(heard("no no no"), 0)) == "no no no"


def test_where_the_distance_does_not_tell_the_time_does() -> None:
    agreement = Agreement()
    for _ in range(3):
        agreement.update(heard("one two three"), 0, END)

    missed = agreement.complete([*heard("one two"), *heard("four", 12_000)], 0)
    misheard = agreement.complete([*heard("one two"), *heard("free four", 8_000)], 0)

    assert text_of(missed) == text_of(misheard) == "one two three four"


def test_a_hearing_may_begin_after_words_that_are_committed() -> None:
    agreement = Agreement()
    for text in ("one two three", *["one two three four"] * 3):
        agreement.update(heard(text), 0, END)

    agreement.update(heard("three four five", 8_000), 8_000, END)

    assert committed(agreement) == "one two three four"
    assert text_of(agreement.words) == "one two three four five"


def test_words_that_will_not_be_heard_again_are_committed() -> None:
    agreement = Agreement()
    agreement.update(heard("one two three"), 0, END)

    agreement.commit_before(8_000)

    assert committed(agreement) == "one two"


def test_text_has_the_spaces_of_its_script() -> None:
    def joined(*texts: str) -> str:
        return text_of(WordHypothesis(text, 0, 1) for text in texts)

    assert joined(" Hello", ",", " world") == "Hello, world"
    assert joined("hello", "world") == "hello world"
    assert joined("東", "京") == "東京"
