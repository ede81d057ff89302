"""Transcripts as files: plain text, JSON, SubRip and WebVTT subtitles, tab-separated values.

Files are written piece by piece while segments are read, so memory does not grow with the
transcript. Plain text is made of paragraphs (``transcript.paragraphs``), subtitles of cues
(``files.cues``). Channels that were transcribed apart are numbered from 0 in all formats. Where
speakers are known, their names stand in place of the channels'.
"""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import to_json

from shared.infra.errors import UnknownFormat
from shared.speech.files.cues import CUE_LINES, Cue, make_cues, milliseconds, one_line
from shared.speech.files.docx import write_docx
from shared.speech.names import FORMATS
from shared.speech.speakers.names import TalkerNames
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Header, Segment, join_segments

MEDIA_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "json": "application/json",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
"""By format, in the order of ``FORMATS``."""

_BLOCK_CHARS = 1 << 16
"""Least length of a block, except for the last one."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A transcript in one format."""

    media_type: str
    blocks: Iterator[str] | Iterator[bytes]
    """The file, in blocks of about 64 KiB or more."""


def render(
    header: Header,
    segments: Iterable[Segment],
    format: str,  # noqa: A002 (the API's word for it)
    *,
    without_words: Iterable[Segment] | None = None,
    line_columns: int | None = None,
    max_lines: int = CUE_LINES,
    max_words: int | None = None,
) -> Rendered:
    """Write a transcript in one of ``FORMATS``.

    Args:
        header: of the transcript.
        segments: in order; iterated over more than once, so this must not be an iterator.
        format: its name.
        without_words: the same segments, perhaps without their words, if they are read faster so.
        line_columns: longest line of a subtitle; None: as is usual for its language.
        max_lines: most lines of a subtitle.
        max_words: most words of a subtitle; None: as many as fit.

    Raises:
        UnknownFormat: there is no such format.
    """
    if format not in FORMATS:
        raise UnknownFormat(f"no format '{format}'; there are {', '.join(FORMATS)}")
    texts = segments if without_words is None else without_words
    if format == "docx":
        return Rendered(MEDIA_TYPES[format], write_docx(header, texts))
    cues = make_cues(
        header, segments, line_columns=line_columns, max_lines=max_lines, max_words=max_words
    )
    names = TalkerNames(header)
    # Generators: only the one that is returned ever runs.
    parts = {
        "txt": _write_txt(names, texts),
        "json": _write_json(header, segments, texts),
        "srt": _write_srt(names, cues),
        "vtt": _write_vtt(names, cues),
        "tsv": _write_tsv(header, names, texts),
    }[format]
    return Rendered(MEDIA_TYPES[format], in_blocks(parts))


def write_text_json(header: Header, segments: Iterable[Segment]) -> Iterator[str]:
    """Yield the parts of a ``TranscriptText`` as a JSON document."""
    yield from _open_json(header, segments, None)
    yield "}"


def write_json(
    header: Header,
    segments: Iterable[Segment],
    without_words: Iterable[Segment],
    *,
    indent: int | None = None,
) -> Iterator[str]:
    """Yield the parts of a ``Transcript`` or ``PartialTranscript`` as a JSON document.

    ``without_words`` are the same segments, whose words may be missing. They are iterated over
    twice, and ``segments`` once.
    """
    yield from _open_json(header, without_words, indent)
    yield from _list_member("paragraphs", make_paragraphs(without_words), indent)
    yield from _list_member("segments", segments, indent)
    yield "\n}" if indent else "}"


def _list_member(name: str, items: Iterable[BaseModel], indent: int | None) -> Iterator[str]:
    """Yield the parts of a member of a JSON object that is not its first."""
    line, colon = ("\n", ": ") if indent else ("", ":")
    inner, innermost = " " * (indent or 0), " " * 2 * (indent or 0)
    yield f',{line}{inner}"{name}"{colon}['
    found = False
    for item in items:
        document = item.model_dump_json(indent=indent)
        yield "," if found else ""
        yield line + innermost + document.replace("\n", "\n" + innermost)
        found = True
    yield f"{line}{inner}]" if found else "]"


def _open_json(header: Header, segments: Iterable[Segment], indent: int | None) -> Iterator[str]:
    """Yield a transcript's JSON from its beginning to the end of its text."""
    line, colon = ("\n", ": ") if indent else ("", ":")
    head = header.model_dump_json(indent=indent, exclude={"text", "paragraphs", "segments"})
    yield head.removesuffix("}").rstrip("\n")
    yield f',{line}{" " * (indent or 0)}"text"{colon}"'
    yield from write_text(segments)
    yield '"'


def write_text(segments: Iterable[Segment]) -> Iterator[str]:
    """Yield the parts of segments' running text as they are within a JSON string."""
    for text in join_segments(segments):
        yield to_json(text).decode()[1:-1]


def in_blocks(parts: Iterable[str]) -> Iterator[str]:
    """Join parts into blocks of at least ``_BLOCK_CHARS``."""
    block: list[str] = []
    n_chars = 0
    for part in parts:
        block.append(part)
        n_chars += len(part)
        if n_chars >= _BLOCK_CHARS:
            yield "".join(block)
            block, n_chars = [], 0
    if block:
        yield "".join(block)


def _clock(ms: int, decimal_mark: str) -> str:
    """Write milliseconds as HH:MM:SS and three decimals; hours may exceed 99."""
    s, ms = divmod(ms, 1000)
    return f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}{decimal_mark}{ms:03d}"


def _prefix(name: str) -> str:
    """Return a talker's name before the words, for formats that have no markup for it."""
    return f"{name}: " if name else ""


def _write_txt(names: TalkerNames, segments: Iterable[Segment]) -> Iterator[str]:
    """One paragraph a line."""
    for paragraph in make_paragraphs(segments):
        yield f"{_prefix(names.of(paragraph))}{one_line(paragraph.text)}\n"


def _write_json(
    header: Header, segments: Iterable[Segment], without_words: Iterable[Segment]
) -> Iterator[str]:
    yield from write_json(header, segments, without_words, indent=2)
    yield "\n"


def _write_srt(names: TalkerNames, cues: Iterable[Cue]) -> Iterator[str]:
    """SubRip, with LF line ends as FFmpeg and Whisper write them."""
    for number, cue in enumerate(cues, start=1):
        yield "\n" if number > 1 else ""
        yield f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        yield _prefix(names.of(cue)) + "".join(f"{line}\n" for line in cue.lines)


def _write_vtt(names: TalkerNames, cues: Iterable[Cue]) -> Iterator[str]:
    """WebVTT (W3C). The characters &, < and > are markup, so they are escaped."""
    yield "WEBVTT\n"
    for cue in cues:
        yield f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        name = names.of(cue)
        yield f"<v {html.escape(name, quote=False)}>" if name else ""
        yield "".join(f"{html.escape(line, quote=False)}\n" for line in cue.lines)


def _write_tsv(header: Header, names: TalkerNames, segments: Iterable[Segment]) -> Iterator[str]:
    """Start and end in milliseconds and the text, one segment a line, as Whisper writes it.

    Columns for the channel and the speaker's name follow where there are any.
    """
    has_channels, has_speakers = header.channels is not None, header.speakers is not None
    yield "start\tend\ttext"
    yield ("\tchannel" if has_channels else "") + ("\tspeaker" if has_speakers else "") + "\n"
    for segment in segments:
        start, end = milliseconds(segment.start), milliseconds(segment.end)
        yield f"{start}\t{end}\t{one_line(segment.text)}"
        yield f"\t{segment.channel}" if has_channels else ""
        name = "" if segment.speaker is None else names.of(segment)
        yield f"\t{name}" if has_speakers else ""
        yield "\n"
