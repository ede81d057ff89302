"""Edits of transcripts: spellings, numbers as digits, masked words; times are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.jobs.word_streams import transcript_of, transcripts
from shared.speech.text.number_words import find_numbers
from shared.speech.transcript.edits import EditedSegments, Editor, Edits
from shared.speech.transcript.transcript import Segment, Transcript, Word, join_words


def segment(text: str, *, unspaced: bool = False, language: str | None = None) -> Segment:
    said = list(text) if unspaced else text.split()
    words = [Word(text=word, start=n, end=n + 0.5) for n, word in enumerate(said)]
    return transcript_of(words).segments[0].model_copy(update={"language": language})


def edited(text: str, **edits: object) -> str:
    return Editor(Edits.model_validate(edits)).edit(segment(text))[0].text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one hundred and twenty three", "123"),
        ("two thousand twenty six", "2026"),
        ("twenty twenty six", "2026"),
        ("nineteen eighty-four", "1984"),
        ("nineteen hundred", "1900"),
        ("one million two hundred thousand", "1200000"),
        ("call five five five one two", "call 55512"),
        ("three point one four percent", "3.14 percent"),
        ("Twenty-one cats and five dogs", "21 cats and five dogs"),
        ("ten and twenty", "10 and 20"),
        ("twenty, one", "20, one"),
        ("(Forty two), she said", "(42), she said"),
        ("one of them, a hundred times", "one of them, a hundred times"),
    ],
)
def test_numerals_are_digits_and_small_numbers_alone_stay_words(text: str, expected: str) -> None:
    assert edited(text, numerals=True) == expected


def test_numerals_are_english() -> None:
    editor = Editor(Edits(numerals=True))
    german = segment("ten six sten", language="de")
    assert editor.edit(german) == (german, [])
    assert editor.edit(segment("ten", language="en"))[0].text == "10"


@given(
    st.lists(
        st.sampled_from(
            ["one", "ten", "twenty", "hundred", "thousand", "and", "point", "oh", "a", "-"]
        )
    )
)
def test_numbers_are_found_in_order_and_never_overlap(words: list[str]) -> None:
    at = 0
    for number in find_numbers(words):
        assert at <= number.start < number.stop <= len(words)
        assert float(number.digits) >= 0
        at = number.stop


def test_spellings_take_the_place_of_words_and_phrases_whatever_their_case() -> None:
    spelling = {"long hand": "Longhand", "colour": "color", "acme": "ACME Corp."}
    text = "Long hand's (long hand), colour! Acme and long. hand"
    assert edited(text, spelling=spelling) == (
        "Long hand's (Longhand), color! ACME Corp. and Longhand"
    )


def test_masked_words_keep_their_length_and_the_marks_around_them() -> None:
    assert edited("Darn! The 'darned' heck no.", mask=["darn", "heck no"]) == (
        "****! The 'darned' *******."
    )


def test_scripts_without_spaces_are_edited_too() -> None:
    editor = Editor(Edits(spelling={"東京": "Tokyo"}, mask=["です"]))
    found, changes = editor.edit(segment("私は東京都です", unspaced=True))
    assert found.text == "私はTokyo都**"
    assert [(change.before, change.start, change.end) for change in changes] == [
        ("東京", 2.0, 3.5),
        ("です", 5.0, 6.5),
    ]


def test_words_keep_their_times_and_share_them_where_their_number_changes() -> None:
    editor = Editor(Edits(spelling={"b": "x y"}, numerals=True))
    found, changes = editor.edit(segment("a b twenty one c"))
    assert [(word.text, word.start, word.end) for word in found.words] == [
        ("a", 0.0, 0.5),
        ("x", 1.0, 1.25),
        ("y", 1.25, 1.5),
        ("21", 2.0, 3.5),
        ("c", 4.0, 4.5),
    ]
    assert [(each.kind, each.before, each.after, each.start, each.end) for each in changes] == [
        ("spelling", "b", "x y", 1.0, 1.5),
        ("numerals", "twenty one", "21", 2.0, 3.5),
    ]


@given(transcripts(), st.lists(st.text("ab1 ", min_size=1, max_size=3), max_size=3))
def test_edits_keep_the_order_of_words_and_their_text_is_the_segments(
    transcript: Transcript, masked: list[str]
) -> None:
    edits = Edits(mask=masked, numerals=True, spelling=dict.fromkeys(masked, "z z"))
    whole = EditedSegments(transcript.segments, edits)
    changes = list(whole.changes())
    for before, after in zip(transcript.segments, whole, strict=True):
        assert (after.id, after.start, after.end) == (before.id, before.start, before.end)
        starts = [word.start for word in after.words]
        assert starts == sorted(starts)
        if any(change.segment == before.id for change in changes):
            assert after.text == join_words(after.words)
        else:
            assert after == before
