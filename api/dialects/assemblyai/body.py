"""What AssemblyAI's requests ask for here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from api.dialects.assemblyai.tables import LIST, TRANSCRIPT
from api.dialects.assemblyai.webhook import webhook_of
from api.dialects.parameters import Operation
from api.intake.json_job import FileReference
from api.native.ids import parse_id
from api.validation import describe
from shared.infra.errors import InvalidParameter, UnsupportedLanguage
from shared.infra.outbound import Outbound
from shared.models.options import UNKNOWN_LANGUAGE
from shared.store.webhooks.endpoints import JobWebhook

UPLOADED = "https://upload.longhand.invalid/"
"""What the URLs of uploads begin with. No host has such a name, so nothing else is meant by them,
and they do not depend on the address by which a client reaches the API."""

_MAX_PROMPT_CHARS = 1_000

Checked = TypeVar("Checked", bound=BaseModel)


def _id(given: str) -> UUID:
    found = parse_id(given)
    if found is None:
        raise ValueError("it is no id of a transcript")
    return found


class _SpeakerOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    min_speakers_expected: int | None = None
    max_speakers_expected: int | None = None


class _Body(BaseModel):
    """What the body of a request for a transcript may say, after the table's check."""

    model_config = ConfigDict(extra="forbid", strict=True)

    audio_url: str
    speech_model: str | None = None
    speech_models: list[str] = []
    language_code: str | None = None
    language_codes: list[str] = []
    language_detection: bool = False
    multichannel: bool = False
    dual_channel: bool = False
    speaker_labels: bool = False
    speakers_expected: int | None = None
    speaker_options: _SpeakerOptions | None = None
    punctuate: bool = True
    format_text: bool = True
    keyterms_prompt: list[str] = []
    word_boost: list[str] = []
    prompt: str | None = None
    webhook_url: str | None = None
    webhook_auth_header_name: str | None = None
    webhook_auth_header_value: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for."""

    file: FileReference
    """The file, and its job's options."""
    webhook: JobWebhook | None
    """Told of the job's end; None: nobody is."""


class ListQuery(BaseModel):
    """What the query of a list may say, after the table's check."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=10, ge=1, le=200)
    status: Literal["queued", "processing", "completed", "error"] | None = None
    created_on: date | None = None
    before_id: Annotated[UUID | None, BeforeValidator(_id)] = None
    after_id: Annotated[UUID | None, BeforeValidator(_id)] = None


def read_list_query(given: Mapping[str, str]) -> ListQuery:
    """Return what a query of the list asks for.

    Raises:
        InvalidParameter: a parameter is unknown, or not what it should be.
    """
    query = _checked(LIST, given, ListQuery)
    if query.before_id is not None and query.after_id is not None:
        raise InvalidParameter("before_id and after_id exclude each other", "after_id")
    return query


def read_body(body: bytes, model_of: Callable[[str | None], str], outbound: Outbound) -> Asked:
    """Return what a body asks for.

    Raises:
        InvalidParameter: the body is no JSON object; a parameter is unknown or wrong.
        UnsupportedParameter: one is refused.
        UnsupportedLanguage: there is no such language.
        UnknownModel: there is no such model.
    """
    try:
        given = from_json(body)
    except ValueError as error:
        raise InvalidParameter("the body is not JSON") from error
    if not isinstance(given, dict):
        raise InvalidParameter("the body is not a JSON object")
    asked = _checked(TRANSCRIPT, given, _Body)
    named = [asked.language_code, *asked.language_codes]
    codes = list(dict.fromkeys(code for code in named if code))
    if asked.language_detection and codes:
        raise InvalidParameter("language_detection: the language is named", "language_detection")
    if asked.speech_model and asked.speech_models:
        raise InvalidParameter("speech_model and speech_models exclude each other", "speech_models")
    names: list[str | None] = [*asked.speech_models] or [asked.speech_model]
    models = [*map(model_of, names)]
    options: dict[str, Any] = {
        "model": models[0],
        "language": codes[0] if len(codes) == 1 else None,
        "multilingual": len(codes) > 1,
        "multichannel": asked.multichannel or asked.dual_channel,
        "speakers": _speakers(asked),
        "prompt": asked.prompt and asked.prompt[-_MAX_PROMPT_CHARS:],
        "hotwords": ", ".join([*asked.keyterms_prompt, *asked.word_boost]) or None,
    }
    webhook = webhook_of(
        asked.webhook_url,
        asked.webhook_auth_header_name,
        asked.webhook_auth_header_value,
        outbound,
    )
    try:
        return Asked(FileReference(**options, **_file_at(asked.audio_url)), webhook)
    except ValidationError as error:
        message = describe(error)[0]["message"]
        if error.errors()[0]["type"] == UNKNOWN_LANGUAGE:
            raise UnsupportedLanguage(message) from error
        found = str(error.errors()[0]["loc"][0])
        name = _NAMES.get(found, found)
        raise InvalidParameter(f"{name}: {message}", name) from error


_NAMES = {
    "hotwords": "keyterms_prompt",
    "language": "language_code",
    "speakers": "speakers_expected",
}
"""Their names of our options, for errors."""


def _speakers(asked: _Body) -> bool | dict[str, int | None]:
    if not asked.speaker_labels:
        if asked.speakers_expected is not None or asked.speaker_options is not None:
            raise InvalidParameter("it needs speaker_labels", "speakers_expected")
        return False
    if asked.speakers_expected is not None:
        if asked.speaker_options is not None:
            problem = "speakers_expected and speaker_options exclude each other"
            raise InvalidParameter(problem, "speaker_options")
        return {"count": asked.speakers_expected}
    if asked.speaker_options is not None:
        chosen = asked.speaker_options
        return {"min": chosen.min_speakers_expected, "max": chosen.max_speakers_expected}
    return True


def _file_at(url: str) -> dict[str, Any]:
    if not url.startswith(UPLOADED):
        return {"audio_url": url}
    upload_id = parse_id(url.removeprefix(UPLOADED))
    if upload_id is None:
        raise InvalidParameter("audio_url: there is no such upload", "audio_url")
    return {"upload_id": upload_id}


def _checked(operation: Operation, given: Mapping[str, Any], model: type[Checked]) -> Checked:
    for name, value in given.items():
        if "\0" in f"{name}{value}" or "\\x00" in repr(value):
            raise InvalidParameter("it contains a NUL character", name.replace("\0", ""))
    try:
        return model.model_validate(operation.check(given))
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise InvalidParameter(f"{name}: {describe(error)[0]['message']}", name) from error
