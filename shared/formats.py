"""Transcripts as files: plain text, JSON, SubRip and WebVTT subtitles, tab-separated values.

Written piece by piece from segments that are read as they are needed, in memory that does not grow
with the transcript.

Subtitle cues are built anew from the words and their times, so that they fit a screen however long
the segments are: at most two lines of at most 42 characters, never more than one cue of a channel
at a time. Where channels were transcribed apart, all formats name the channel as JSON does, from 0.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from pydantic_core import to_json

from shared.errors import UnknownFormat
from shared.transcript import Header, Segment, join_segments, word_separator

LINE_CHARS = 42
"""Longest subtitle line in characters: Netflix's Timed Text Style Guide for Latin scripts. The name
of a channel comes on top."""
CUE_LINES = 2
"""Most lines of a cue, by the same guide."""
MIN_CUE_MS = 833
"""Shortest cue unless the next one follows sooner: 5/6 of a second, by the same guide."""
MAX_CUE_MS = 7_000
"""Longest cue, by the same guide."""

_BLOCK_CHARS = 1 << 16
"""Length from which on pieces are handed out together."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A transcript in one format."""

    media_type: str
    blocks: Iterator[str]
    """The file, in blocks of some 64 thousand characters."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word, or a part of one that is longer than a line; milliseconds."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from ``start_ms`` until ``end_ms``."""

    lines: tuple[str, ...]
    start_ms: int
    end_ms: int
    channel: int | None = None


def render(
    header: Header,
    segments: Iterable[Segment],
    format: str,  # noqa: A002 (the API's word for it)
) -> Rendered:
    """Write a transcript in one of ``FORMATS``.

    Args:
        header: of the transcript.
        segments: in order; iterated more than once, so no mere iterator.
        format: name of the format.

    Raises:
        UnknownFormat: it is none of them.
    """
    try:
        write, media_type = _WRITERS[format]
    except KeyError:
        raise UnknownFormat(f"no format '{format}'; there are {', '.join(FORMATS)}") from None
    return Rendered(media_type, in_blocks(write(header, segments)))


def write_text_json(header: Header, segments: Iterable[Segment]) -> Iterator[str]:
    """Yield the parts of a ``TranscriptText`` as a JSON document."""
    yield from _open_json(header, segments, None)
    yield "}"


def write_json(
    header: Header, segments: Iterable[Segment], *, indent: int | None = None
) -> Iterator[str]:
    """Yield the parts of a ``Transcript`` or ``PartialTranscript`` as a JSON document."""
    line, colon = ("\n", ": ") if indent else ("", ":")
    inner, innermost = " " * (indent or 0), " " * 2 * (indent or 0)
    yield from _open_json(header, segments, indent)
    yield f',{line}{inner}"segments"{colon}['
    found = False
    for segment in segments:
        document = segment.model_dump_json(indent=indent)
        yield "," if found else ""
        yield line + innermost + document.replace("\n", "\n" + innermost)
        found = True
    yield f"{line}{inner}]{line}}}" if found else f"]{line}}}"


def _open_json(header: Header, segments: Iterable[Segment], indent: int | None) -> Iterator[str]:
    """Yield a transcript's JSON up to its text, without what ends the object."""
    line, colon = ("\n", ": ") if indent else ("", ":")
    head = header.model_dump_json(indent=indent, exclude={"text", "segments"})
    yield head.removesuffix("}").rstrip("\n")
    yield f',{line}{" " * (indent or 0)}"text"{colon}"'
    for text in join_segments(segments, header.language):
        yield to_json(text).decode()[1:-1]
    yield '"'


def in_blocks(parts: Iterable[str]) -> Iterator[str]:
    """Put parts together to blocks that are worth sending."""
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


def make_cues(header: Header, segments: Iterable[Segment]) -> Iterator[Cue]:
    """Cut the words into subtitle cues by start time; every word is in one of them.

    Cues of one channel never overlap. Each channel is a pass of its own over ``segments``.
    """
    channels = [None] if header.channels is None else range(header.channels)
    passes = (_cues_of_channel(header, segments, channel) for channel in channels)
    return heapq.merge(*passes, key=lambda cue: cue.start_ms)


def _cues_of_channel(
    header: Header, segments: Iterable[Segment], channel: int | None
) -> Iterator[Cue]:
    drafts = chain.from_iterable(
        _fill_cues(segment, segment.language or header.language)
        for segment in segments
        if segment.channel == channel
    )
    free_from = 0
    draft = next(drafts, None)
    while draft is not None:
        following = next(drafts, None)
        start = max(draft.start_ms, free_from)
        end = min(max(draft.end_ms, start + MIN_CUE_MS), start + MAX_CUE_MS)
        if following is not None:
            # A cue is at least a millisecond long, or players drop it.
            end = max(start + 1, min(end, following.start_ms))
        yield Cue(draft.lines, start, end, channel)
        free_from, draft = end, following


def _fill_cues(segment: Segment, language: str | None) -> Iterator[Cue]:
    """Pack a segment's words into cues, line by line; a cue's times are those of its words."""
    lines: list[str] = []
    start_ms = end_ms = 0
    for piece in _pieces(segment):
        if lines:
            separator = word_separator(lines[-1], piece.text, language)
            fits_line = len(lines[-1]) + len(separator) + len(piece.text) <= LINE_CHARS
            fits_cue = piece.end_ms - start_ms <= MAX_CUE_MS and (
                fits_line or len(lines) < CUE_LINES
            )
            if not fits_cue:
                yield Cue(tuple(lines), start_ms, end_ms)
                lines = []
            elif fits_line:
                lines[-1] += separator + piece.text
            else:
                lines.append(piece.text)
        if not lines:
            lines, start_ms = [piece.text], piece.start_ms
        end_ms = piece.end_ms
    if lines:
        yield Cue(tuple(lines), start_ms, end_ms)


def _pieces(segment: Segment) -> Iterator[_Piece]:
    """Yield the segment's words, hard-split where one is longer than a line."""
    for word in segment.words:
        text = _one_line(word.text)
        start, end = _ms(word.start), _ms(word.end)
        for at in range(0, len(text), LINE_CHARS):
            until = min(at + LINE_CHARS, len(text))
            yield _Piece(
                text[at:until],
                start + (end - start) * at // len(text),
                start + (end - start) * until // len(text),
            )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _one_line(text: str) -> str:
    """Collapse all white space, so that text cannot break a line-based format."""
    return " ".join(text.split())


def _clock(ms: int, decimal_mark: str) -> str:
    """Write milliseconds as HH:MM:SS and three decimals; hours may exceed 99."""
    s, ms = divmod(ms, 1000)
    return f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}{decimal_mark}{ms:03d}"


def _label(channel: int | None) -> str:
    """What stands before the words of a channel where there is no markup for it."""
    return "" if channel is None else f"Channel {channel}: "


def _write_txt(_: Header, segments: Iterable[Segment]) -> Iterator[str]:
    """One segment a line."""
    for segment in segments:
        yield f"{_label(segment.channel)}{_one_line(segment.text)}\n"


def _write_json(header: Header, segments: Iterable[Segment]) -> Iterator[str]:
    yield from write_json(header, segments, indent=2)
    yield "\n"


def _write_srt(header: Header, segments: Iterable[Segment]) -> Iterator[str]:
    """SubRip, with LF line ends as FFmpeg and Whisper write them; every player reads both."""
    for number, cue in enumerate(make_cues(header, segments), start=1):
        yield "\n" if number > 1 else ""
        yield f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        yield _label(cue.channel) + "".join(f"{line}\n" for line in cue.lines)


def _write_vtt(header: Header, segments: Iterable[Segment]) -> Iterator[str]:
    """WebVTT (W3C); in cue text &, < and > are markup and so are escaped. A channel is a voice."""
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    yield "WEBVTT\n"
    for cue in make_cues(header, segments):
        yield f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        yield "" if cue.channel is None else f"<v Channel {cue.channel}>"
        yield "".join(f"{line.translate(escape)}\n" for line in cue.lines)


def _write_tsv(header: Header, segments: Iterable[Segment]) -> Iterator[str]:
    """Start and end in milliseconds and the text, one segment a line, as Whisper writes it."""
    apart = header.channels is not None
    yield "start\tend\ttext\tchannel\n" if apart else "start\tend\ttext\n"
    for segment in segments:
        yield f"{_ms(segment.start)}\t{_ms(segment.end)}\t{_one_line(segment.text)}"
        yield f"\t{segment.channel}\n" if apart else "\n"


_WRITERS: dict[str, tuple[Callable[[Header, Iterable[Segment]], Iterator[str]], str]] = {
    "txt": (_write_txt, "text/plain; charset=utf-8"),
    "json": (_write_json, "application/json"),
    "srt": (_write_srt, "application/x-subrip; charset=utf-8"),
    "vtt": (_write_vtt, "text/vtt; charset=utf-8"),
    "tsv": (_write_tsv, "text/tab-separated-values; charset=utf-8"),
}

FORMATS = tuple(_WRITERS)
"""Names of the formats a transcript can be asked for in."""
