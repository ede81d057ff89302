"""The terms of texts and queries, and where a segment has what is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.jobs.word_streams import transcript_of
from shared.speech.transcript.search import find_matches, fold, parse_query, terms_of
from shared.speech.transcript.transcript import Segment, Word
from shared.store.search import segment_terms


def terms(text: str) -> list[str]:
    return [term.text for term in terms_of(fold(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Café's OPEN.", ["the", "cafe", "s", "open"]),
        ("3.5 ÷ 2", ["3", "5", "2"]),
        ("Straße ﬁne ＡＢＣ", ["strasse", "fine", "abc"]),  # noqa: RUF001
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("東京都 です", ["東京", "京都", "都", "です", "す"]),
        ("in 東 town", ["in", "東", "town"]),
        ("서울에서", ["서울", "울에", "에서", "서"]),
        ("ดี", ["ดี", "ี"]),
        ("!?… —", []),
    ],
)
def test_terms_are_words_and_pairs_of_characters_where_there_are_no_words(
    text: str, expected: list[str]
) -> None:
    assert terms(text) == expected


def segment(text: str, *, unspaced: bool = False) -> Segment:
    said = list(text) if unspaced else text.split()
    words = [Word(text=word, start=n, end=n + 0.5) for n, word in enumerate(said)]
    return transcript_of(words).segments[0]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("We open the cafe today", "CAFÉ", [("cafe", 3)]),
        ("We open the cafe", "caf", []),
        ("We open the cafe", "caf*", [("cafe", 3)]),
        ("one two one two", '"one two"', [("one two", 0), ("one two", 2)]),
        ("one two", '"two one"', []),
        ("don't you dare", "don't", [("don't", 0)]),
        ("서울에서 왔다", "서울", [("서울에서", 0)]),
        ("don't you dare", "dare you", [("you", 1), ("dare", 2)]),
    ],
)
def test_matches_are_the_words_asked_for(
    text: str, query: str, expected: list[tuple[str, int]]
) -> None:
    found = find_matches(segment(text), parse_query(query))
    assert [(match.text, match.start) for match in found] == expected


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("私は東京都です", "東京", "東京"),
        ("私は東京都です", "京都で", "京都で"),
        ("私は東京都です", "東都", None),
        ("私は東京都です", "私", "私"),
        ("私は東京都です", "す", "す"),
        ("วันนี้อากาศดี", "อากาศ", "อากาศ"),
    ],
)
def test_any_run_of_characters_is_found_in_scripts_without_spaces(
    text: str, query: str, expected: str | None
) -> None:
    found = find_matches(segment(text, unspaced=True), parse_query(query))
    assert [match.text for match in found] == ([] if expected is None else [expected])


@given(st.text(max_size=40))
def test_every_text_has_terms_that_postgres_can_keep(text: str) -> None:
    written = segment_terms(text)
    assert all(len(term.encode()) <= 256 for term in terms(text))
    assert "'" not in "".join(terms(text))
    assert "\\" not in "".join(terms(text))
    assert written.count("\1") == len(set(terms(text)))


@given(st.text(max_size=40))
def test_every_query_is_read(query: str) -> None:
    assert all(parse_query(query)) or parse_query(query) == []
