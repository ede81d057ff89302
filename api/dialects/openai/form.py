"""OpenAI's form: its fields, and what they ask for here."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from api.dialects.parameters import Operation
from api.intake.multipart import Field as FormField
from api.validation import describe
from shared.infra.errors import InvalidParameter, UnsupportedLanguage, UnsupportedParameter
from shared.models.options import UNKNOWN_LANGUAGE, JobOptions

_MAX_PROMPT_CHARS = 1_000
"""Of a prompt. Whispers read its end, of at most 223 tokens."""

_LISTS = frozenset(
    {
        *("include", "keywords", "known_speaker_names", "known_speaker_references", "languages"),
        "timestamp_granularities",
    }
)

Format = Literal["json", "text", "srt", "vtt", "verbose_json", "diarized_json"]


class _Form(BaseModel):
    """What a form may say, after the table's check."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    language: str | None = None
    languages: list[str] = []
    keywords: list[str] = []
    prompt: str | None = None
    response_format: Format = "json"
    include: list[Literal["logprobs"]] = []
    timestamp_granularities: list[Literal["word", "segment"]] = []
    stream: bool = False
    chunking_strategy: Literal["auto", None] = None
    chunking_type: Literal["server_vad", None] = Field(None, alias="chunking_strategy.type")


@dataclass(frozen=True, slots=True)
class Wish:
    """How an answer is to look."""

    format: Format = "json"
    words: bool = False
    segments: bool = True
    logprobs: bool = False
    stream: bool = False


class AudioForm:
    """The fields of a transcription or translation; ``Fields`` of a ``MultipartForm``."""

    texts: Collection[str] = ()
    long_fields: Mapping[str, int] = MappingProxyType({"prompt": 64 * 1024})

    def __init__(
        self,
        operation: Operation,
        task: Literal["transcribe", "translate"],
        model_of: Callable[[str | None], str],
    ) -> None:
        """Read the fields of ``operation``; ``model_of`` knows the names of models."""
        self._operation = operation
        self._task: Literal["transcribe", "translate"] = task
        self._model_of = model_of
        self._given: dict[str, Any] = {}
        self._asked: JobOptions | None = None
        self.wish = Wish()
        """How the answer is to look, by the fields so far."""

    def add(self, field: FormField) -> None:
        """Take a field.

        Raises:
            InvalidParameter: it is unknown, given twice, or not what it should be.
            UnsupportedParameter: it is refused.
        """
        if "\0" in field.value:
            raise InvalidParameter(f"{field.name} contains a NUL character", field.name)
        self._asked = None
        for name, value in _flat(field):
            self._operation.check({name: value})
            if name in _LISTS:
                self._given.setdefault(name, []).append(value)
            elif name in self._given:
                raise InvalidParameter(f"{name} is given twice", name)
            else:
                self._given[name] = value

    def asked(self) -> JobOptions:
        """Return what is asked so far; the same object as long as no field is added.

        Raises:
            InvalidParameter: a value is not what it should be, or two contradict each other.
            UnsupportedParameter: a value is refused.
            UnsupportedLanguage: there is no such language.
            UnknownModel: there is no such model.
        """
        if self._asked is None:
            form = self._checked()
            self.wish = _wish_of(form)
            self._asked = self._options_of(form)
        return self._asked

    def _checked(self) -> _Form:
        given = self._operation.check(self._given)
        if given.get("response_format") == "diarized_json" and self._task == "translate":
            raise UnsupportedParameter(
                "response_format diarized_json is for transcriptions", "response_format"
            )
        try:
            return _Form.model_validate(given)
        except ValidationError as error:
            wrong = describe(error)[0]
            name = str(error.errors()[0]["loc"][0])
            raise InvalidParameter(f"{name}: {wrong['message']}", name) from error

    def _options_of(self, form: _Form) -> JobOptions:
        languages = [*filter(None, [form.language, *form.languages])]
        if len(set(languages)) > 1:
            raise UnsupportedParameter(
                "languages: name one, or none to have it detected", "languages"
            )
        try:
            return JobOptions(
                model=self._model_of(form.model),
                language=languages[0] if languages else None,
                task=self._task,
                speakers=form.response_format == "diarized_json",
                prompt=form.prompt and form.prompt[-_MAX_PROMPT_CHARS:],
                hotwords=", ".join(form.keywords) or None,
            )
        except ValidationError as error:
            first = error.errors()[0]
            message = describe(error)[0]["message"]
            if first["type"] == UNKNOWN_LANGUAGE:
                raise UnsupportedLanguage(message) from error
            name = {"hotwords": "keywords"}.get(str(first["loc"][0]), str(first["loc"][0]))
            raise InvalidParameter(f"{name}: {message}", name) from error


def _wish_of(form: _Form) -> Wish:
    kinds = form.timestamp_granularities
    if kinds and form.response_format != "verbose_json":
        raise InvalidParameter(
            "timestamp_granularities needs response_format verbose_json", "timestamp_granularities"
        )
    if form.include and form.response_format != "json":
        raise InvalidParameter("include logprobs needs response_format json", "include")
    if form.stream and form.response_format not in ("json", "text"):
        raise InvalidParameter("stream needs response_format json or text", "stream")
    return Wish(
        form.response_format,
        words="word" in kinds,
        segments=not kinds or "segment" in kinds,
        logprobs=bool(form.include),
        stream=form.stream,
    )


def _flat(field: FormField) -> list[tuple[str, Any]]:
    """Return a field as names and values of the table: ``a[]`` is ``a``, and ``a[b]`` is ``a.b``.

    An object may also come as JSON.
    """
    name, _, inner = field.name.removesuffix("[]").partition("[")
    if inner:
        return [(f"{name}.{inner.removesuffix(']')}", field.value)]
    if name == "chunking_strategy" and field.value.lstrip().startswith("{"):
        try:
            found = from_json(field.value)
        except ValueError as error:
            raise InvalidParameter(f"{name}: {field.value!r} is no JSON object", name) from error
        return [(f"{name}.{key}", value) for key, value in found.items()]
    return [(name, field.value)]
