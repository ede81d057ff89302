"""Deepgram's query: its parameters, and what they ask for here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from api.dialects.deepgram.tables import LISTEN
from api.dialects.parameters import Operation
from api.validation import describe
from shared.infra.errors import InvalidParameter, UnsupportedLanguage, UnsupportedParameter
from shared.models.options import UNKNOWN_LANGUAGE, JobOptions
from shared.speech.dialects.deepgram import TAGS, Wish

_LISTS = frozenset({"keyterm", "keywords", "replace", "tag"})
"""Parameters that may be given several times."""
MULTILINGUAL = "multi"
"""In place of a language: there may be several."""


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


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
    callback: str | None = None
    callback_method: Annotated[Literal["POST", "PUT"] | None, BeforeValidator(_upper)] = None


@dataclass(frozen=True, slots=True)
class Callback:
    """Where the answer is sent once there is one."""

    url: str
    method: Literal["POST", "PUT"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query asks for."""

    options: JobOptions
    wish: Wish
    callback: Callback | None
    """None: the client waits for the answer."""


def read_query(given: QueryParams, model_of: Callable[[str | None], str]) -> Asked:
    """Return what a query asks for; ``model_of`` knows the names of models.

    Raises:
        InvalidParameter: a parameter is unknown, given twice, or not what it should be.
        UnsupportedParameter: one is refused.
        UnsupportedLanguage: there is no such language.
        UnknownModel: there is no such model.
    """
    query = _checked(given)
    is_multilingual = query.language == MULTILINGUAL
    if query.detect_language and query.language:
        raise InvalidParameter("detect_language: the language is named", "detect_language")
    wish = Wish(
        formatted=query.punctuate or query.smart_format or query.paragraphs,
        paragraphs=query.paragraphs,
        utt_split_s=query.utt_split if query.utterances else None,
        detected=query.detect_language,
        speakers=query.diarize,
    )
    if query.callback_method and not query.callback:
        raise InvalidParameter("callback_method: there is no callback", "callback_method")
    callback = None
    if query.callback:
        callback = Callback(query.callback, query.callback_method or "POST")
    try:
        options = JobOptions(
            model=model_of(query.model),
            language=None if is_multilingual else query.language,
            multilingual=is_multilingual,
            multichannel=query.multichannel,
            speakers=query.diarize,
            hotwords=hotwords_of(query.keyterm, query.keywords),
            numerals=query.numerals,
            spelling=spelling_of(query.replace),
            metadata={TAGS: query.tag} if query.tag else {},
        )
    except ValidationError as error:
        if error.errors()[0]["type"] == UNKNOWN_LANGUAGE:
            raise UnsupportedLanguage(describe(error)[0]["message"]) from error
        raise invalid_parameter(error) from error
    return Asked(options, wish, callback)


def check_query(given: QueryParams, operation: Operation) -> dict[str, Any]:
    """Return what a query asks for, by the table of its operation.

    Raises:
        InvalidParameter: a parameter is unknown, or given twice.
        UnsupportedParameter: one is refused.
    """
    values: dict[str, Any] = {}
    for name in given:
        several = given.getlist(name)
        if any("\0" in value for value in several):
            raise InvalidParameter("it contains a NUL character", name)
        if name in _LISTS:
            values[name] = several
        elif len(several) > 1 and name in operation.parameters:
            operation.check({name: several})
            raise InvalidParameter(f"{name} is given twice", name)
        else:
            values[name] = several[0]
    return operation.check(values)


def _checked(given: QueryParams) -> _Query:
    try:
        return _Query.model_validate(check_query(given, LISTEN))
    except ValidationError as error:
        raise invalid_parameter(error) from error


def invalid_parameter(error: ValidationError) -> InvalidParameter:
    """Return the error that tells of a wrong value, in the dialect's names."""
    field = str(error.errors()[0]["loc"][0])
    name = {"hotwords": "keyterm", "spelling": "replace"}.get(field, field)
    return InvalidParameter(f"{name}: {describe(error)[0]['message']}", name)


def hotwords_of(keyterm: Sequence[str], keywords: Sequence[str]) -> str | None:
    """Return the words to expect; None: there are none.

    Raises:
        UnsupportedParameter: a keyword has a weight below zero.
    """
    return ", ".join([*keyterm, *map(_unweighted, keywords)]) or None


def spelling_of(replace: Sequence[str]) -> dict[str, str]:
    """Return what is written in place of what, from texts such as ``FIND:REPLACE``."""
    return {each.partition(":")[0]: each.partition(":")[2] for each in replace}


def _unweighted(keyword: str) -> str:
    word, _, weight = keyword.partition(":")
    if weight.startswith("-"):
        raise UnsupportedParameter("keywords: no word can be made less likely", "keywords")
    return word
