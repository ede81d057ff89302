import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech.text.sentences import ends_sentence, is_punctuated
from shared.speech.transcript.segments import (
    LONG_PAUSE_S,
    MAX_SEGMENT_S,
    MAX_UNPUNCTUATED_S,
    PAUSE_S,
    PlacedWord,
    make_segments,
)
from shared.speech.transcript.transcript import Segment, Word, join_segments, join_words

TWO_CITIES = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
    "age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the "
    "season of Light, it was the season of Darkness, it was the spring of hope, it was the winter "
    "of despair, we had everything before us, we had nothing before us, we were all going direct "
    "to Heaven, we were all going direct the other way, in short, the period was so far like the "
    "present period, that some of its noisiest authorities insisted on its being received, for "
    "good or for evil, in the superlative degree of comparison only."
)


def spoken(
    text: str,
    *,
    language: str | None = "en",
    word_s: float = 0.3,
    pauses: dict[str, float] | None = None,
) -> list[PlacedWord]:
    """Words of equal length, one after another; ``pauses`` come after the words that they name."""
    placed: list[PlacedWord] = []
    now = 0.0
    for said in text.split(" "):
        word = Word(
            text=said.strip("_"),
            separator="" if said.startswith("_") or not placed else " ",
            start=round(now, 3),
            end=round(now + word_s, 3),
        )
        placed.append(PlacedWord(word, language, None))
        now += word_s + (pauses or {}).get(word.text, 0.0)
    return placed


def texts(words: Iterable[PlacedWord]) -> list[str]:
    return [segment.text for segment in make_segments(words)]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Ask not what your country can do for you. | Ask what you can do for it."),
        ("en", "Mr. Smith met Dr. Jones at St. Mary's. | Then they left."),
        ("en", "He lives near the U.S. Army base. | It costs 3.5 million."),
        ("en", "J. R. R. Tolkien wrote it. | We read it at 5 p.m. and left."),
        ("en", "Wait... what did you say? | I don't know... | Never mind."),
        ("en", '"Is it you?" she asked. | "Yes!" he said. | "Go."'),
        ("en", "We were there, you and I. | No. | It is No. 5."),
        ("en", "Yes . | No , not that ."),
        ("de", "Das gilt z. B. für Äpfel. | Am 5. Mai war es kalt. | Prof. Dr. med. Weber kam."),
        ("de", "Er fragte: „Wer ist da?“ | Herr Dipl.-Ing. Maier wohnt in der Str. 7."),
        ("fr", "Il a dit : « Viens ! » | Puis M. Dupont lut l'art. 5 de J.-P. Sartre."),
        ("es", "¿Cómo está usted? | ¡Muy bien! | El Sr. García vive en EE. UU. desde 1990."),
        ("pl", "Prof. Kowalski mieszka np. w Krakowie. | Tak."),
        ("ru", "Это было в 1941 г. в Москве, на ул. Ленина. | Это я. | А. С. Пушкин писал."),  # noqa: RUF001
        ("el", "Τι κάνεις; | Ο κ. Παπαδόπουλος ήρθε."),  # noqa: RUF001
        ("hi", "यह अच्छा है। | डॉ. शर्मा आए।"),
        ("ar", "كيف حالك؟ | أنا بخير."),
        ("ur", "یہ اچھا ہے۔ | آپ کیسے ہیں؟ | شکریہ۔"),  # noqa: RUF001
        ("am", "ይህ ጥሩ ነው። | አዎ።"),
        ("ja", "これ _は _本 _です。 | _それ _は _何 _？ | _「 _そう _。 _」"),  # noqa: RUF001
        ("zh", "我 _叫 _ChatGPT。 | _你好！ | _3.5 _元 _。"),  # noqa: RUF001
    ],
)
def test_a_segment_is_a_sentence(language: str, text: str) -> None:
    sentences = text.split(" | ")

    found = texts(spoken(" ".join(sentences), language=language))

    assert found == [sentence.lstrip("_").replace(" _", "") for sentence in sentences]


def test_a_pause_within_a_sentence_does_not_end_a_segment() -> None:
    words = spoken(
        "Ask not what your country can do for you, ask what you can do for our country. And so on.",
        pauses={"not": 1.2, "you,": 1.9},
    )

    assert [segment.text.split()[-1] for segment in make_segments(words)] == ["country.", "on."]


def test_a_long_pause_ends_a_segment() -> None:
    words = spoken("I thought that, well, we might go.", pauses={"that,": LONG_PAUSE_S})

    assert texts(words) == ["I thought that,", "well, we might go."]


def test_text_without_punctuation_is_cut_at_pauses() -> None:
    words = spoken(
        "hello this is nell yes mr brown we can hear you",
        pauses={"nell": PAUSE_S, "yes": PAUSE_S - 0.1, "brown": 1.0},
    )

    assert texts(words) == ["hello this is nell", "yes mr brown", "we can hear you"]


def test_long_text_without_punctuation_is_cut_at_its_longest_pauses() -> None:
    words = spoken(
        " ".join(f"word{at}" for at in range(80)),
        pauses={"word20": 0.3, "word29": 0.5, "word41": 0.6, "word60": 0.2},
    )

    segments = list(make_segments(words))

    assert [segment.words[-1].text for segment in segments] == ["word41", "word79"]


def test_thai_is_cut_where_a_space_was_written() -> None:
    words = spoken(" ".join("_ครับ" for _ in range(40)) + " ผม " + " ".join("_ดี" for _ in range(30)))

    segments = list(make_segments(words))

    assert len(segments) > 1
    assert "ผม" in [segment.words[0].text for segment in segments]


def test_a_sentence_of_more_than_30_s_is_cut_at_clause_ends() -> None:
    words = spoken(TWO_CITIES, word_s=0.36, pauses={"Darkness,": 1.0})

    segments = list(make_segments(words))

    assert [segment.words[-1].text for segment in segments] == ["Darkness,", "only."]
    assert all(segment.end - segment.start <= MAX_SEGMENT_S for segment in segments)


def test_segments_end_where_the_language_changes() -> None:
    english = spoken("good day")
    chinese = [
        PlacedWord(placed.word.model_copy(update={"start": 1.0, "end": 1.2}), "zh", None)
        for placed in spoken("你好")
    ]

    segments = list(make_segments([*english, *chinese]))

    assert [(segment.language, segment.text) for segment in segments] == [
        ("en", "good day"),
        ("zh", "你好"),
    ]


@st.composite
def talks(draw: st.DrawFn) -> list[PlacedWord]:
    """Words with any marks, lengths, pauses and languages, in order of time."""
    now = 0.0
    placed = []
    letters = st.sampled_from(["a", "Mr", "word", "Then", "行", "ครับ", "3", "है"])
    marks = st.sampled_from(["", "", "", "", ",", ".", "?", "...", "。", "»", '."'])
    for _ in range(draw(st.integers(0, 150))):
        start = round(now + draw(st.sampled_from([0, 0, 0, 0.1, 0.9, 2.5])), 3)
        now = round(start + draw(st.sampled_from([0, 0.2, 0.4, 1.0, 1.0, 40.0])), 3)
        text = draw(st.sampled_from(["", "", "("])) + draw(letters) + draw(marks)
        word = Word(text=text, separator=draw(st.sampled_from(["", " "])), start=start, end=now)
        language = draw(st.sampled_from(["en", "en", "en", "th", None]))
        placed.append(PlacedWord(word, language, None))
    return placed


@given(talks())
def test_segments_have_all_words_in_order_and_the_text_of_these(words: list[PlacedWord]) -> None:
    segments = list(make_segments(words))

    given_words = [placed.word for placed in words]
    assert [word for segment in segments for word in segment.words] == given_words
    assert "".join(join_segments(segments)) == join_words(given_words)
    for segment in segments:
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)


@given(talks())
def test_no_segment_is_too_long_unless_one_word_is(words: list[PlacedWord]) -> None:
    for segment in make_segments(words):
        length_s = segment.end - segment.start
        assert length_s <= MAX_SEGMENT_S or len(segment.words) == 1
        if length_s > MAX_UNPUNCTUATED_S and len(segment.words) > 1:
            assert any(is_punctuated(placed.word.text) for placed in words)


@given(talks())
def test_a_sentences_end_ends_a_segment(words: list[PlacedWord]) -> None:
    for segment in make_segments(words):
        for word, following in pairwise(segment.words):
            assert not ends_sentence(word.text, following.text, segment.language)
            assert following.start - word.end < LONG_PAUSE_S


@pytest.mark.parametrize("text", ["word", "word,"])
def test_memory_does_not_grow_with_words_that_end_no_sentence(text: str) -> None:
    """Twenty thousand words, as of two hours of speech, would take ten megabytes."""

    def words() -> Iterator[PlacedWord]:
        for at in range(20_000):
            word = Word(text=text, start=at * 0.4, end=at * 0.4 + 0.4)
            yield PlacedWord(word, "en", None)

    tracemalloc.start()
    try:
        segments = sum(1 for _ in make_segments(words()))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert segments >= 20_000 * 0.4 / MAX_SEGMENT_S
    assert peak_bytes < 500_000


def test_a_very_long_word_and_many_of_no_length_are_cut_without_deep_recursion() -> None:
    words = [PlacedWord(Word(text="a,", start=0, end=0), "en", None) for _ in range(3_000)]
    words.append(PlacedWord(Word(text="b", start=0, end=100), "en", None))

    segments: list[Segment] = list(make_segments(words))

    assert segments[-1].text == "b"
    assert sum(len(segment.words) for segment in segments) == 3_001
