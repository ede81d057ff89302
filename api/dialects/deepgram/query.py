"""Deepgram's query: its parameters, and what they ask for here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from api.dialects.deepgram.tables import LISTEN
from api.validation import describe
from shared.infra.errors import InvalidParameter, UnsupportedLanguage, UnsupportedParameter
from shared.models.options import UNKNOWN_LANGUAGE, JobOptions

_LISTS = frozenset({"keyterm", "keywords", "replace", "tag"})
"""Parameters that may be given several times."""
_MULTILINGUAL = "multi"
_TAGS = "tags"


class _Query(BaseModel):
    """What a query may say, after the table's check."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    language: str | None = None
    detect_language: bool = False
    multichannel: bool = False
    diarize: bool = False
    punctuate: bool = False
    smart_format: bool = False
    paragraphs: bool = False
    utterances: bool = False
    utt_split: float = Field(default=0.8, gt=0, le=3600, allow_inf_nan=False)
    keyterm: list[str] = []
    keywords: list[str] = []
    tag: list[str] = []
    numerals: bool = False
    replace: list[str] = []


@dataclass(frozen=True, slots=True)
class Wish:
    """How an answer is to look."""

    formatted: bool
    """With capitals and punctuation."""
    paragraphs: bool
    utt_split_s: float | None
    """None: no utterances."""
    detected: bool
    """Whether the detected language is told."""
    tags: tuple[str, ...]
    speakers: bool = False
    """Whether speakers are told."""


def read_query(
    given: QueryParams, model_of: Callable[[str | None], str]
) -> tuple[JobOptions, Wish]:
    """Return what a query asks for; ``model_of`` knows the names of models.

    Raises:
        InvalidParameter: a parameter is unknown, given twice, or not what it should be.
        UnsupportedParameter: one is refused.
        UnsupportedLanguage: there is no such language.
        UnknownModel: there is no such model.
    """
    query = _checked(given)
    is_multilingual = query.language == _MULTILINGUAL
    if query.detect_language and query.language:
        raise InvalidParameter("detect_language: the language is named", "detect_language")
    wish = Wish(
        formatted=query.punctuate or query.smart_format or query.paragraphs,
        paragraphs=query.paragraphs,
        utt_split_s=query.utt_split if query.utterances else None,
        detected=query.detect_language,
        tags=tuple(query.tag),
        speakers=query.diarize,
    )
    terms = [*query.keyterm, *map(_unweighted, query.keywords)]
    try:
        options = JobOptions(
            model=model_of(query.model),
            language=None if is_multilingual else query.language,
            multilingual=is_multilingual,
            multichannel=query.multichannel,
            speakers=query.diarize,
            hotwords=", ".join(terms) or None,
            numerals=query.numerals,
            spelling={each.partition(":")[0]: each.partition(":")[2] for each in query.replace},
            metadata={_TAGS: query.tag} if query.tag else {},
        )
    except ValidationError as error:
        first = error.errors()[0]
        message = describe(error)[0]["message"]
        if first["type"] == UNKNOWN_LANGUAGE:
            raise UnsupportedLanguage(message) from error
        field = str(first["loc"][0])
        name = {"hotwords": "keyterm", "spelling": "replace"}.get(field, field)
        raise InvalidParameter(f"{name}: {message}", name) from error
    return options, wish


def _checked(given: QueryParams) -> _Query:
    values: dict[str, Any] = {}
    for name in given:
        several = given.getlist(name)
        if any("\0" in value for value in several):
            raise InvalidParameter("it contains a NUL character", name)
        if name in _LISTS:
            values[name] = several
        elif len(several) > 1 and name in LISTEN.parameters:
            LISTEN.check({name: several})
            raise InvalidParameter(f"{name} is given twice", name)
        else:
            values[name] = several[0]
    try:
        return _Query.model_validate(LISTEN.check(values))
    except ValidationError as error:
        wrong = describe(error)[0]
        name = str(error.errors()[0]["loc"][0])
        raise InvalidParameter(f"{name}: {wrong['message']}", name) from error


def _unweighted(keyword: str) -> str:
    word, _, weight = keyword.partition(":")
    if weight.startswith("-"):
        raise UnsupportedParameter("keywords: no word can be made less likely", "keywords")
    return word
