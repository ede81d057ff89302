"""How segments are grouped into paragraphs.

A paragraph is a run of segments that follow each other in the transcript. It ends where the channel
or the speaker changes, at a long pause, and at a sentence's end once it is long.
"""

from collections.abc import Iterable, Iterator

from shared.speech.text.scripts import columns
from shared.speech.text.sentences import CLOSING_MARKS, SENTENCE_ENDS
from shared.speech.transcript.transcript import Paragraph, Segment, join_segments

LONG_PAUSE_S = 2.0
"""Silence that ends a paragraph."""
PAUSE_S = 0.8
"""Silence that ends a paragraph of ``LONG_COLUMNS``."""
LONG_COLUMNS = 400
"""From here on a paragraph ends at a pause after a sentence: about half a minute of speech."""
VERY_LONG_COLUMNS = 800
"""From here on a paragraph ends at the next sentence's end."""
MAX_COLUMNS = 1_600
"""Longest paragraph, unless one segment is longer: some two minutes of speech."""


def make_paragraphs(segments: Iterable[Segment]) -> Iterator[Paragraph]:
    """Yield the paragraphs of a transcript; every segment is in exactly one.

    The segments come in order; their words are not read. Only those of one paragraph are held.
    """
    paragraph: list[Segment] = []
    n_columns = 0
    for segment in segments:
        more = columns(segment.text)
        if paragraph and _is_new(paragraph[-1], segment, n_columns, more):
            yield _paragraph(paragraph)
            paragraph, n_columns = [], 0
        # Words are not read later: they would be held.
        paragraph.append(segment.model_copy(update={"words": []}))
        n_columns += more
    if paragraph:
        yield _paragraph(paragraph)


def _is_new(last: Segment, segment: Segment, n_columns: int, more: int) -> bool:
    """Whether a segment begins a paragraph after one of ``n_columns`` that ends with ``last``."""
    pause_s = segment.start - last.end
    if (last.channel, last.speaker) != (segment.channel, segment.speaker):
        return True
    if pause_s >= LONG_PAUSE_S or n_columns + more > MAX_COLUMNS:
        return True
    ends_sentence = last.text.rstrip(CLOSING_MARKS)[-1:] in SENTENCE_ENDS
    if n_columns >= VERY_LONG_COLUMNS:
        return ends_sentence or pause_s >= PAUSE_S
    return n_columns >= LONG_COLUMNS and pause_s >= PAUSE_S


def _paragraph(segments: list[Segment]) -> Paragraph:
    return Paragraph(
        start=segments[0].start,
        end=max(segment.end for segment in segments),
        text="".join(join_segments(segments)),
        channel=segments[0].channel,
        speaker=segments[0].speaker,
        first_segment=segments[0].id,
        last_segment=segments[-1].id,
    )
