"""The tables of the AssemblyAI dialect know every field of the pinned SDK."""

from assemblyai import types
from sdkfields import members, unknown_members, unknown_parameters

from api.dialects.assemblyai.tables import (
    LIST,
    PARAGRAPHS,
    SENTENCES,
    TRANSCRIPT,
    WORD_SEARCH,
)

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
