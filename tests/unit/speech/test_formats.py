import io
import json
import re
import tracemalloc
from collections.abc import Iterator
from xml.etree import ElementTree
from zipfile import ZipFile

import pytest
from hypothesis import given

from harness.jobs.transcripts import WORD, contents, docx_paragraphs
from harness.jobs.word_streams import transcript_of, transcripts
from shared.infra.errors import UnknownFormat
from shared.speech.files.formats import in_blocks, write_json, write_text_json
from shared.speech.files.formats import render as render_stream
from shared.speech.names import FORMATS
from shared.speech.transcript.transcript import (
    Paragraph,
    Segment,
    Transcript,
    TranscriptHeader,
    Word,
)


def render(transcript: Transcript, name: str) -> str:
    return contents(render_stream(transcript, transcript.segments, name)).decode()


HELLO = transcript_of(
    [Word(text="Hello", start=0.5, end=0.9), Word(text="R&D", start=1.0, end=1.6)],
    [Word(text="<end>", start=3661.0, end=3662.0, confidence=0.5)],
)


@given(transcripts())
def test_every_format_writes_every_transcript(transcript: Transcript) -> None:
    for name in FORMATS:
        rendered = render_stream(transcript, transcript.segments, name)
        assert "/" in rendered.media_type
        written = contents(rendered)
        if name == "docx":
            assert len(docx_paragraphs(written)) == 2 * len(transcript.paragraphs)
        else:
            assert written.endswith(b"\n") or not transcript.segments


def test_srt_is_subrip() -> None:
    assert render(HELLO, "srt") == (
        "1\n00:00:00,500 --> 00:00:01,600\nHello R&D\n\n2\n01:01:01,000 --> 01:01:02,000\n<end>\n"
    )


def test_vtt_escapes_markup() -> None:
    assert render(HELLO, "vtt") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.600\nHello R&amp;D\n"
        "\n01:01:01.000 --> 01:01:02.000\n&lt;end&gt;\n"
    )


def test_tsv_has_milliseconds_and_one_segment_a_line() -> None:
    assert render(HELLO, "tsv") == (
        "start\tend\ttext\n500\t1600\tHello R&D\n3661000\t3662000\t<end>\n"
    )


def test_txt_has_one_paragraph_a_line() -> None:
    spoken = [Word(text=f"word{at}.", start=at, end=at + 0.9) for at in range(3)]
    later = [Word(text="Later.", start=10, end=11)]

    text = render(transcript_of(spoken[:1], spoken[1:], later), "txt")

    assert text == "word0. word1. word2.\nLater.\n"


@given(transcripts())
def test_json_is_the_whole_transcript_as_written_at_once(transcript: Transcript) -> None:
    assert render(transcript, "json") == transcript.model_dump_json(indent=2) + "\n"
    compact = "".join(write_json(transcript, transcript.segments, transcript.segments))
    assert compact == transcript.model_dump_json()
    text_alone = "".join(write_text_json(transcript, transcript.segments))
    assert text_alone == transcript.model_dump_json(exclude={"paragraphs", "segments"})


def test_json_escapes_what_it_must() -> None:
    word = 'say "a\\b"\n\u2028\x00\x1f'
    transcript = transcript_of([Word(text=word, start=0, end=1)], [Word(text="é", start=2, end=3)])

    assert json.loads(render(transcript, "json"))["text"] == f"{word} é"
    assert render(transcript, "json") == transcript.model_dump_json(indent=2) + "\n"


def test_white_space_in_a_word_cannot_break_a_line_based_format() -> None:
    transcript = transcript_of([Word(text="a\tb\n\n9\nc", start=0, end=1)])

    assert render(transcript, "tsv").splitlines()[1:] == ["0\t1000\ta b 9 c"]
    assert not re.search(r"\n\n9", render(transcript, "srt"))


CROSS_TALK = Transcript(
    language="en",
    channels=2,
    duration_s=10,
    speech_s=10,
    skipped_s=0,
    text="Who there? me, still",
    paragraphs=[
        Paragraph(start=0, end=9, text="Who there?", channel=0, first_segment=0, last_segment=0),
        Paragraph(start=1, end=2.5, text="me,", channel=1, first_segment=1, last_segment=1),
        Paragraph(start=9.5, end=10, text="still", channel=1, first_segment=2, last_segment=2),
    ],
    segments=[
        Segment(
            id=id_,
            start=words[0].start,
            end=words[-1].end,
            text=" ".join(word.text for word in words),
            channel=channel,
            words=words,
        )
        for id_, channel, words in [
            (0, 0, [Word(text="Who", start=0, end=5), Word(text="there?", start=5, end=9)]),
            (1, 1, [Word(text="me,", start=1, end=2.5)]),
            (2, 1, [Word(text="still", start=9.5, end=10)]),
        ]
    ],
)


def test_channels_are_named_in_every_format_and_keep_their_own_time() -> None:
    assert render(CROSS_TALK, "txt") == (
        "Channel 0: Who there?\nChannel 1: me,\nChannel 1: still\n"
    )
    assert render(CROSS_TALK, "tsv").splitlines()[:2] == [
        "start\tend\ttext\tchannel",
        "0\t9000\tWho there?\t0",
    ]
    assert render(CROSS_TALK, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:04.917\n<v Channel 0>Who\n"
        "\n00:00:01.000 --> 00:00:02.500\n<v Channel 1>me,\n"
        "\n00:00:05.000 --> 00:00:09.000\n<v Channel 0>there?\n"
        "\n00:00:09.500 --> 00:00:10.333\n<v Channel 1>still\n"
    )
    assert render(CROSS_TALK, "srt").split("\n\n")[1] == (
        "2\n00:00:01,000 --> 00:00:02,500\nChannel 1: me,"
    )


class ManySegments:
    """Segments that exist only while they are looked at."""

    def __init__(self, n_segments: int) -> None:
        self._n_segments = n_segments

    def __iter__(self) -> Iterator[Segment]:
        for n in range(self._n_segments):
            words = [
                Word(text=f"word{at}", start=n * 4 + at * 0.3, end=n * 4 + at * 0.3 + 0.2)
                for at in range(10)
            ]
            text = " ".join(word.text for word in words)
            yield Segment(id=n, start=n * 4, end=n * 4 + 3, text=text, words=words)


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_number_of_segments(name: str) -> None:
    """The 250 segments at once take 1.8 megabytes."""
    header = TranscriptHeader(language="en", duration_s=40_000, speech_s=30_000, skipped_s=10_000)
    tracemalloc.start()
    try:
        n_chars = sum(map(len, render_stream(header, ManySegments(250), name).blocks))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert n_chars > (1_000 if name == "docx" else 12_500)  # docx is compressed
    assert peak_bytes < 500_000


def test_blocks_are_worth_sending_and_lose_nothing() -> None:
    blocks = list(in_blocks("x" * n for n in range(1_000)))

    assert "".join(blocks) == "x" * 499_500
    assert all(len(block) >= 65_536 for block in blocks[:-1])


def test_docx_has_a_heading_with_the_time_above_each_paragraph() -> None:
    document = contents(render_stream(HELLO, HELLO.segments, "docx"))

    assert docx_paragraphs(document) == ["00:00:00", "Hello R&D", "01:01:01", "<end>"]
    assert document == contents(render_stream(HELLO, HELLO.segments, "docx"))


def test_docx_names_channels_and_writes_what_xml_cannot_hold_without_it() -> None:
    segment = Segment(id=0, start=61, end=62, text="a\x00b\x0b\x1bc", channel=1, words=[])
    header = HELLO.model_copy(update={"channels": 2})

    document = contents(render_stream(header, [segment], "docx"))

    assert docx_paragraphs(document) == ["00:01:01 – Channel 1", "ab c"]  # noqa: RUF001


@pytest.mark.parametrize(
    ("text", "leftwards"), [("שלום", True), ("(مرحبا", True), ("Hi שלום", False)]
)
def test_docx_sets_paragraphs_in_the_direction_of_their_script(text: str, leftwards: bool) -> None:
    segment = Segment(id=0, start=0, end=1, text=text, words=[])

    with ZipFile(io.BytesIO(contents(render_stream(HELLO, [segment], "docx")))) as archive:
        root = ElementTree.fromstring(archive.read("word/document.xml"))

    assert (root.find(f".//{WORD}bidi") is not None) is leftwards
    assert (root.find(f".//{WORD}rtl") is not None) is leftwards


def test_unknown_format_is_answered_with_what_there_is() -> None:
    with pytest.raises(UnknownFormat, match=r"no format 'doc'; there are txt, json, srt, .*docx"):
        render(HELLO, "doc")
