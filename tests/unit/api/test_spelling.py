"""Names that people get wrong, and what they are told."""

import pytest

from api.intake.json_job import JsonJob
from api.spelling import _HABITS, nearest, with_nearest
from shared.models.options import JobOptions

FIELDS = ("file", *JobOptions.model_fields)
PARAMETERS = ("format", "partial", "limit", "cursor", "wait", "q")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("audio", "file"), ("audio_file", "file"), ("upload", "file"), ("media", "file")),
        *(("File", "file"), ("files", "file"), ("lang", "language"), ("languages", "language")),
        *(("modle", "model"), ("MODEL", "model"), ("model-name", "model"), ("promt", "prompt")),
        *(("hot_words", "hotwords"), ("word_boost", "hotwords"), ("webhookUrl", "webhook_url")),
        *(("callback_url", "webhook_url"), ("translate", "task"), ("channels", "multichannel")),
        *(("diarize", None), ("temperature", None), ("speed", None), ("x", None)),
    ],
)
def test_a_field_is_led_to_the_one_that_was_meant_if_there_is_one(
    written: str, meant: str | None
) -> None:
    assert nearest(written, FIELDS) == meant


def test_a_habit_leads_only_to_a_name_that_there_is_here() -> None:
    assert nearest("response_format", FIELDS) is None
    assert nearest("response_format", PARAMETERS) == "format"


def test_every_habit_leads_to_a_name_of_ours() -> None:
    names = {name for habits in _HABITS.values() for name in habits}
    assert names <= {*FIELDS, *PARAMETERS, *JsonJob.model_fields}


def test_a_name_is_quoted_so_that_nothing_of_it_reaches_a_terminal() -> None:
    assert with_nearest(["a\x1b[31m", "lang"], FIELDS) == (
        r"'a\x1b[31m', 'lang' (did you mean 'language'?)"
    )
