"""Transcripts as files: plain text, JSON, SubRip and WebVTT subtitles, tab-separated values.

Subtitle cues are built anew from the words and their times, so that they fit a screen however long
the segments are: at most two lines of at most 42 characters, never more than one cue at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from shared.errors import UnknownFormat
from shared.transcript import Segment, Transcript, word_separator

LINE_CHARS = 42
"""Longest subtitle line in characters: Netflix's Timed Text Style Guide for Latin scripts."""
CUE_LINES = 2
"""Most lines of a cue, by the same guide."""
MIN_CUE_MS = 833
"""Shortest cue unless the next one follows sooner: 5/6 of a second, by the same guide."""
MAX_CUE_MS = 7_000
"""Longest cue, by the same guide."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A transcript in one format."""

    body: str
    media_type: str


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


def render(transcript: Transcript, format: str) -> Rendered:  # noqa: A002 (the API's word for it)
    """Write the transcript in one of ``FORMATS``.

    Raises:
        UnknownFormat: it is none of them.
    """
    try:
        write, media_type = _WRITERS[format]
    except KeyError:
        raise UnknownFormat(f"no format '{format}'; there are {', '.join(FORMATS)}") from None
    return Rendered(write(transcript), media_type)


def make_cues(transcript: Transcript) -> list[Cue]:
    """Cut the words into subtitle cues, in order, without overlap; every word is in one of them."""
    drafts = list(
        chain.from_iterable(
            _fill_cues(segment, transcript.language) for segment in transcript.segments
        )
    )
    cues: list[Cue] = []
    free_from = 0
    for position, draft in enumerate(drafts):
        start = max(draft.start_ms, free_from)
        end = min(max(draft.end_ms, start + MIN_CUE_MS), start + MAX_CUE_MS)
        if position + 1 < len(drafts):
            # A cue is at least a millisecond long, or players drop it.
            end = max(start + 1, min(end, drafts[position + 1].start_ms))
        cues.append(Cue(draft.lines, start, end))
        free_from = end
    return cues


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


def _write_txt(transcript: Transcript) -> str:
    """One segment a line."""
    return "".join(f"{_one_line(segment.text)}\n" for segment in transcript.segments)


def _write_json(transcript: Transcript) -> str:
    return transcript.model_dump_json(indent=2) + "\n"


def _write_srt(transcript: Transcript) -> str:
    """SubRip, with LF line ends as FFmpeg and Whisper write them; every player reads both."""
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n"
        + "".join(f"{line}\n" for line in cue.lines)
        for number, cue in enumerate(make_cues(transcript), start=1)
    )


def _write_vtt(transcript: Transcript) -> str:
    """WebVTT (W3C); in cue text &, < and > are markup and so are escaped."""
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    cues = (
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        + "".join(f"{line.translate(escape)}\n" for line in cue.lines)
        for cue in make_cues(transcript)
    )
    return "WEBVTT\n" + "".join(cues)


def _write_tsv(transcript: Transcript) -> str:
    """Start and end in milliseconds and the text, one segment a line, as Whisper writes it."""
    return "start\tend\ttext\n" + "".join(
        f"{_ms(segment.start)}\t{_ms(segment.end)}\t{_one_line(segment.text)}\n"
        for segment in transcript.segments
    )


_WRITERS: dict[str, tuple[Callable[[Transcript], str], str]] = {
    "txt": (_write_txt, "text/plain; charset=utf-8"),
    "json": (_write_json, "application/json"),
    "srt": (_write_srt, "application/x-subrip; charset=utf-8"),
    "vtt": (_write_vtt, "text/vtt; charset=utf-8"),
    "tsv": (_write_tsv, "text/tab-separated-values; charset=utf-8"),
}

FORMATS = tuple(_WRITERS)
"""Names of the formats a transcript can be asked for in."""
