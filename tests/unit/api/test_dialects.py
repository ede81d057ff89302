"""The frame of dialects: tables by which requests are checked, and names of models."""

import pytest
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from api.dialects.assemblyai.body import read_body
from api.dialects.assemblyai.live_query import read_live_query
from api.dialects.installed import DIALECTS
from api.dialects.models import model_of
from api.dialects.openai.form import AudioForm
from api.dialects.openai.tables import TRANSCRIPTION
from api.dialects.parameters import (
    Operation,
    Verdict,
    accepted,
    aliased,
    ignored,
    refused,
)
from api.intake.multipart import Field
from shared.infra.errors import (
    InvalidParameter,
    ModelError,
    UnknownModel,
    UnsupportedParameter,
)
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue, read_catalogue

CATALOGUE = load_catalogue(Settings().catalogue)
OPERATION = Operation(
    "POST /x",
    takes=(
        accepted("language"),
        aliased("keywords", "`hotwords`"),
        refused("diarize", "speakers are not told apart", "false"),
        ignored("tag", "it is for bills"),
    ),
)


def test_what_counts_of_a_request_is_what_is_accepted_and_given() -> None:
    given = {"language": "en", "keywords": ["a"], "tag": "x", "diarize": "False"}
    assert OPERATION.check(given) == {"language": "en", "keywords": ["a"]}
    assert OPERATION.check({"language": "", "keywords": [], "diarize": None}) == {}
    assert OPERATION.check({"diarize": False}) == {}


@pytest.mark.parametrize("value", [True, "true", "yes", {"a": 1}])
def test_a_refused_parameter_is_named_with_the_reason(value: object) -> None:
    with pytest.raises(UnsupportedParameter, match="speakers are not told apart") as error:
        OPERATION.check({"diarize": value})
    assert error.value.members == {"param": "diarize"}


def test_an_unknown_parameter_is_refused_even_without_a_value() -> None:
    with pytest.raises(InvalidParameter, match="did you mean 'language'") as error:
        OPERATION.check({"langage": None})
    assert error.value.members == {"param": "langage"}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        (None, "auto"),
        ("", "auto"),
        ("auto", "auto"),
        ("whisper-1", "auto"),
        ("gpt-9-transcribe", "auto"),
        ("whisper-small", "whisper-small"),
        ("openai/whisper-small", "whisper-small"),
    ],
)
def test_a_name_means_a_model_of_ours_or_the_default(name: str | None, model: str) -> None:
    assert model_of(name, ("whisper-1", "gpt-*"), CATALOGUE, {}) == model


def test_the_operators_aliases_count_first_and_in_their_order() -> None:
    chosen = Settings(model_aliases="gpt-4o*=whisper-small, gpt-*=starter,whisper-tiny=starter")
    aliases = chosen.model_alias_map
    assert model_of("gpt-4o-transcribe", ("gpt-*",), CATALOGUE, aliases) == "whisper-small"
    assert model_of("gpt-transcribe", ("gpt-*",), CATALOGUE, aliases) == "starter"
    assert model_of("whisper-tiny", (), CATALOGUE, aliases) == "starter"


def test_a_name_that_nobody_knows_is_not_the_default() -> None:
    with pytest.raises(UnknownModel, match="LONGHAND_MODEL_ALIASES"):
        model_of("whisper-smal", ("whisper-1",), CATALOGUE, {})


@pytest.mark.parametrize("aliases", ["whisper-1", "=starter", "whisper-1="])
def test_an_alias_that_is_no_pair_is_refused(aliases: str) -> None:
    with pytest.raises(ValidationError, match="NAME=MODEL"):
        Settings(model_aliases=aliases)


def test_an_alias_of_a_model_that_there_is_not_is_refused_at_the_start() -> None:
    with pytest.raises(ModelError, match="LONGHAND_MODEL_ALIASES: no model 'whisper-9'"):
        read_catalogue(Settings(model_aliases="whisper-1=whisper-9"))
    assert read_catalogue(Settings(model_aliases="whisper-1=auto")).models


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.name)
def test_a_table_has_a_reason_for_all_that_is_not_plainly_accepted(dialect: object) -> None:
    for operation in dialect.operations:  # type: ignore[attr-defined]
        names = [parameter.name for parameter in operation.takes]
        assert len(names) == len(set(names))
        for parameter in operation.takes:
            assert parameter.says or parameter.verdict is Verdict.ACCEPTED
            assert not parameter.says.endswith(".")
            assert not parameter.harmless or parameter.verdict is Verdict.REFUSED


def model_of_nobody(name: str | None) -> str:
    raise AssertionError(name)


NESTED = "[" * 4_000
"""Deeper than Python's own parser of JSON can go."""


def test_json_that_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="is not JSON"):
        read_body(NESTED.encode(), model_of_nobody, Outbound())
    with pytest.raises(InvalidParameter, match="is not JSON"):
        read_body(b'{"\\ud800": 1}', model_of_nobody, Outbound())  # half a character
    with pytest.raises(InvalidParameter, match="no JSON list"):
        read_live_query(QueryParams({"keyterms_prompt": NESTED}))
    form = AudioForm(TRANSCRIPTION, "transcribe", model_of_nobody)
    with pytest.raises(InvalidParameter, match="no JSON object"):
        form.add(Field("chunking_strategy", '{"type": ' + NESTED))
