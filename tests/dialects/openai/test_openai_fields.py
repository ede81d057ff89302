"""The tables of the OpenAI dialect know every field of the pinned SDK."""

from typing import get_args

from openai.resources.audio import Transcriptions, Translations
from openai.types import Model
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionStreamEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)
from openai.types.audio.transcription_create_params import TranscriptionCreateParamsStreaming
from openai.types.audio.translation_create_params import TranslationCreateParams

from api.dialects.openai.tables import (
    DIARIZED,
    MODEL_LIST,
    STREAM,
    TRANSCRIPTION,
    TRANSLATION,
    VERBOSE,
    VERBOSE_TRANSLATION,
)
from harness.clients.sdk_fields import arguments, keys, members, unknown_members, unknown_parameters

OF_THE_CLIENT = ("extra_body", "extra_headers", "extra_query", "timeout")


def test_every_parameter_of_the_sdk_has_a_row() -> None:
    of_transcriptions = keys(TranscriptionCreateParamsStreaming) | arguments(
        Transcriptions.create, without=OF_THE_CLIENT
    )
    of_translations = keys(TranslationCreateParams) | arguments(
        Translations.create, without=OF_THE_CLIENT
    )
    assert len(of_transcriptions) > 15
    assert unknown_parameters(of_transcriptions, TRANSCRIPTION) == set()
    assert unknown_parameters(of_translations, TRANSLATION) == set()


def test_the_tables_have_no_row_that_the_sdk_lacks() -> None:
    known = keys(TranscriptionCreateParamsStreaming)
    assert {parameter.name for parameter in TRANSCRIPTION.takes} == known
    known = keys(TranslationCreateParams)
    assert {parameter.name for parameter in TRANSLATION.takes} == known


def test_every_member_of_an_answer_of_the_sdk_has_a_row() -> None:
    assert unknown_members(members(Transcription), TRANSCRIPTION) == set()
    assert unknown_members(members(TranscriptionVerbose), VERBOSE) == set()
    assert unknown_members(members(TranscriptionDiarized), DIARIZED) == set()
    assert unknown_members(members(Translation), TRANSLATION) == set()
    assert unknown_members(members(TranslationVerbose), VERBOSE_TRANSLATION) == set()
    assert unknown_members(members(Model), MODEL_LIST) == set()


def test_every_member_of_an_event_of_the_sdk_has_a_row() -> None:
    union, _ = get_args(TranscriptionStreamEvent)
    kinds = {get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(union)}
    left_out = "transcript.text.segment"
    assert unknown_members({left_out}, STREAM) == set()
    names = {
        f"{event}: {name}"
        for event, kind in kinds.items()
        for name in set(kind.model_fields) - {"type"}
        if event != left_out
    }
    assert unknown_members(names, STREAM) == set()
