import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UnknownFormat
from shared.formats import (
    CUE_LINES,
    FORMATS,
    LINE_CHARS,
    MAX_CUE_MS,
    MIN_CUE_MS,
    make_cues,
    render,
)
from shared.transcript import Segment, Transcript, Word, join_words


def transcript_of(*segments: list[Word], language: str | None = "en") -> Transcript:
    texts = [join_words((word.text for word in words), language) for words in segments]
    return Transcript(
        text=join_words(texts, language),
        language=language,
        duration_s=1e6,
        speech_s=1e6,
        skipped_s=0,
        segments=[
            Segment(id=i, start=words[0].start, end=words[-1].end, text=text, words=words)
            for i, (words, text) in enumerate(zip(segments, texts, strict=True))
        ],
    )


HELLO = transcript_of(
    [Word(text="Hello", start=0.5, end=0.9), Word(text="R&D", start=1.0, end=1.6)],
    [Word(text="<end>", start=3661.0, end=3662.0, confidence=0.5)],
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words of any length in time order, gaps and lengths from nothing to many seconds."""
    language = draw(st.sampled_from([None, "en", "ja"]))
    letters = st.characters(categories=["L", "N", "P"])
    now = 0.0
    segments = []
    for sizes in draw(st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=25), max_size=4)):
        words = []
        for size in sizes:
            start = round(now + draw(st.sampled_from([0, 0, 0.001, 0.2, 9.0])), 3)
            now = round(start + draw(st.sampled_from([0, 0.001, 0.3, 1.0, 12.0])), 3)
            text = draw(st.text(letters, min_size=size, max_size=size))
            words.append(Word(text=text, start=start, end=now))
        segments.append(words)
    return transcript_of(*segments, language=language)


@given(transcripts())
def test_cues_fit_the_screen(transcript: Transcript) -> None:
    for cue in make_cues(transcript):
        assert 1 <= len(cue.lines) <= CUE_LINES
        assert all(1 <= len(line) <= LINE_CHARS for line in cue.lines)


@given(transcripts())
def test_cues_keep_every_word_in_order(transcript: Transcript) -> None:
    shown = "".join("".join(cue.lines) for cue in make_cues(transcript)).replace(" ", "")

    words = [word.text for segment in transcript.segments for word in segment.words]
    assert shown == "".join(words)


@given(transcripts())
def test_cues_never_overlap_and_last_a_sensible_time(transcript: Transcript) -> None:
    cues = make_cues(transcript)

    for cue, following in pairwise(cues):
        assert cue.end_ms <= following.start_ms
        assert cue.end_ms - cue.start_ms >= MIN_CUE_MS or cue.end_ms == following.start_ms
    assert all(1 <= cue.end_ms - cue.start_ms <= MAX_CUE_MS for cue in cues)


@given(transcripts())
def test_every_format_writes_every_transcript(transcript: Transcript) -> None:
    for name in FORMATS:
        rendered = render(transcript, name)
        assert "/" in rendered.media_type
        assert rendered.body.endswith("\n") or not transcript.segments


def test_cue_is_shown_while_its_words_are_spoken() -> None:
    first, second = make_cues(HELLO)

    assert (first.lines, first.start_ms, first.end_ms) == (("Hello R&D",), 500, 1600)
    assert (second.start_ms, second.end_ms) == (3_661_000, 3_662_000)


def test_srt_is_subrip() -> None:
    assert render(HELLO, "srt").body == (
        "1\n00:00:00,500 --> 00:00:01,600\nHello R&D\n\n2\n01:01:01,000 --> 01:01:02,000\n<end>\n"
    )


def test_vtt_escapes_markup() -> None:
    assert render(HELLO, "vtt").body == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.600\nHello R&amp;D\n"
        "\n01:01:01.000 --> 01:01:02.000\n&lt;end&gt;\n"
    )


def test_tsv_has_milliseconds_and_one_segment_a_line() -> None:
    assert render(HELLO, "tsv").body == (
        "start\tend\ttext\n500\t1600\tHello R&D\n3661000\t3662000\t<end>\n"
    )


def test_txt_has_one_segment_a_line() -> None:
    assert render(HELLO, "txt").body == "Hello R&D\n<end>\n"


def test_json_is_the_whole_transcript() -> None:
    assert Transcript.model_validate(json.loads(render(HELLO, "json").body)) == HELLO


def test_white_space_in_a_word_cannot_break_a_line_based_format() -> None:
    transcript = transcript_of([Word(text="a\tb\n\n9\nc", start=0, end=1)])

    assert render(transcript, "tsv").body.splitlines()[1:] == ["0\t1000\ta b 9 c"]
    assert not re.search(r"\n\n9", render(transcript, "srt").body)


def test_unknown_format_is_answered_with_what_there_is() -> None:
    with pytest.raises(UnknownFormat, match="no format 'doc'; there are txt, json, srt, vtt, tsv"):
        render(HELLO, "doc")


@pytest.mark.parametrize(
    ("words", "language", "text"),
    [
        (["hello", "world"], "en", "hello world"),
        (["안녕", "세상"], "ko", "안녕 세상"),
        (["你", "好"], "zh", "你好"),
        (["用", "open", "source", "吧"], "zh", "用open source吧"),
        ([], "ja", ""),
    ],
)
def test_words_are_joined_in_the_manner_of_the_language(
    words: list[str], language: str, text: str
) -> None:
    assert join_words(words, language) == text
