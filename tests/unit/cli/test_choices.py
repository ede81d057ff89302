"""The command line offers what the server takes: it repeats it, so that --help loads no server."""

import click
import pytest

from api.native.transcripts import show_transcript
from cli.commands.transcribe import transcribe
from cli.transcribe.file_jobs import has_words
from harness.jobs.transcripts import contents
from shared.speech.files import cues, formats
from shared.speech.names import FORMATS
from shared.speech.transcript.transcript import Segment, TranscriptHeader, Word


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("max_line_width", cues.MIN_LINE_COLUMNS, cues.MAX_LINE_COLUMNS),
        ("max_line_count", 1, cues.MAX_CUE_LINES),
        ("max_words_per_cue", 1, cues.MAX_CUE_WORDS),
    ],
)
def test_the_sizes_of_subtitles_offered_are_the_servers(
    name: str, smallest: int, largest: int
) -> None:
    (offered,) = (param.type for param in transcribe.params if param.name == name)
    assert isinstance(offered, click.IntRange)
    assert (offered.min, offered.max) == (smallest, largest)
    assert name in show_transcript.__annotations__


@pytest.mark.parametrize("channels", [None, 2])
@pytest.mark.parametrize("form", FORMATS)
def test_a_transcript_without_words_is_known_in_every_format(
    form: str, channels: int | None
) -> None:
    header = TranscriptHeader(
        language="en", channels=channels, duration_s=1.0, speech_s=0.0, skipped_s=1.0
    )
    word = Word(text="hello", start=0.0, end=0.5)
    channel = None if channels is None else 0
    segment = Segment(id=0, start=0.0, end=0.5, text="hello", channel=channel, words=[word])
    silent, spoken = (
        contents(formats.render(header, segments, form)) for segments in ([], [segment])
    )
    assert not has_words(form, silent)
    assert has_words(form, spoken)
