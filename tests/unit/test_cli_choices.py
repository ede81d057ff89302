"""The command line offers what the server takes: it repeats it, so that --help loads no server."""

import click
import pytest

from api.native.jobs import show_transcript
from cli.main import transcribe
from cli.options import FORMATS, SUBTITLES
from shared.speech import cues, formats


def test_the_formats_offered_are_the_servers() -> None:
    assert (FORMATS, SUBTITLES) == (formats.FORMATS, formats.SUBTITLES)


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        ("max_line_width", cues.MIN_LINE_CHARS, cues.MAX_LINE_CHARS),
        ("max_line_count", 1, cues.MAX_CUE_LINES),
    ],
)
def test_the_sizes_of_subtitles_offered_are_the_servers(
    name: str, smallest: int, largest: int
) -> None:
    (offered,) = (param.type for param in transcribe.params if param.name == name)
    assert isinstance(offered, click.IntRange)
    assert (offered.min, offered.max) == (smallest, largest)
    assert name in show_transcript.__annotations__
