"""The tables of the AssemblyAI dialect know every field of the pinned SDK."""

from typing import get_args

from assemblyai import types
from assemblyai.streaming.v3 import RealTimeParameters, RealTimeTranscriber
from assemblyai.streaming.v3.models import (
    EventMessage,
    ForceEndpoint,
    KeepAlive,
    TerminateSession,
    UpdateConfiguration,
)

from api.dialects.assemblyai.live_tables import STREAM, TOKEN, UPDATE
from api.dialects.assemblyai.tables import (
    LIST,
    PARAGRAPHS,
    SENTENCES,
    TRANSCRIPT,
    WORD_SEARCH,
)
from api.dialects.parameters import Presence
from harness.clients.sdk_fields import arguments, members, unknown_members, unknown_parameters

NOT_IN_THE_SDK = {"token", "language"}
"""Parameters of live sessions: one of AssemblyAI's client for browsers, and one of old."""
REQUESTED = {*types.RawTranscriptionConfig.model_fields, *types.TranscriptRequest.model_fields}


def test_every_parameter_of_the_sdk_has_a_row() -> None:
    assert len(REQUESTED) > 40
    assert unknown_parameters(REQUESTED, TRANSCRIPT) == set()
    assert unknown_parameters(types.ListTranscriptParameters.model_fields, LIST) == set()


def test_the_table_has_no_row_that_the_sdk_lacks() -> None:
    assert {parameter.name for parameter in TRANSCRIPT.takes} == REQUESTED


def test_every_member_of_an_answer_of_the_sdk_has_a_row() -> None:
    assert unknown_members(members(types.TranscriptResponse), TRANSCRIPT) == set()
    assert unknown_members(members(types.ListTranscriptResponse), LIST) == set()
    assert unknown_members(members(types.SentencesResponse), SENTENCES) == set()
    assert unknown_members(members(types.ParagraphsResponse), PARAGRAPHS) == set()
    assert unknown_members(members(types.WordSearchMatchResponse), WORD_SEARCH) == set()


def test_a_new_member_would_be_missed() -> None:
    assert unknown_members({"novelty", "words[].novelty"}, TRANSCRIPT) == {
        "novelty",
        "words[].novelty",
    }
    assert unknown_members({"chapters[].gist"}, TRANSCRIPT) == set()


def test_every_parameter_of_a_live_session_of_the_sdk_has_a_row() -> None:
    assert len(RealTimeParameters.model_fields) > 30
    named = {parameter.name for parameter in STREAM.takes}
    assert named == {*RealTimeParameters.model_fields} | NOT_IN_THE_SDK
    updated = {*UpdateConfiguration.model_fields} - {"type"}
    assert {parameter.name for parameter in UPDATE.takes} == updated
    asked_for = arguments(RealTimeTranscriber.create_temporary_token)
    assert {parameter.name for parameter in TOKEN.takes} == asked_for
    for message in (TerminateSession, ForceEndpoint, KeepAlive):
        assert set(message.model_fields) == {"type"}


def test_every_member_of_a_message_of_the_sdk_has_a_row() -> None:
    left_out = {each.name for each in STREAM.answers if each.presence is Presence.LEFT_OUT}
    kinds = {
        get_args(each.model_fields["type"].annotation)[0]: each for each in get_args(EventMessage)
    }
    assert len(kinds) > 8
    names = {
        f"{kind}: {name}"
        for kind, message in kinds.items()
        for name in members(message) - {"type"}
        if kind not in left_out
    }
    assert unknown_members(names, STREAM) == set()
