"""The options of a job, checked against the catalogue."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError, from_json

from shared.infra.errors import ConflictingOptions, UnsupportedLanguage, UnsupportedOption
from shared.infra.quantities import size
from shared.models import AUTO, AUTO_RULE
from shared.models.catalogue import Catalogue, Model
from shared.models.entries import DiarizationModel
from shared.speech.names import VadName
from shared.speech.speakers.turns import SpeakerHints
from shared.speech.text.accuracy import MAX_REFERENCE_CHARS
from shared.speech.text.languages import UnknownLanguage, language_code
from shared.speech.transcript.edits import Edits

MAX_PRIORITY = 100
_MAX_NAME_CHARS = 100
"""Of a model, a language or a track."""
MAX_METADATA_BYTES = 16 * 1024
MAX_HOTWORDS_CHARS = 1_000
MAX_EDIT_CHARS = 1_000
"""Of all spellings as JSON, and of all words to be masked."""
UNKNOWN_LANGUAGE = "unknown_language"
"""pydantic's type of the error about a language that there is not."""
ESCAPED_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")
"""In JSON. Postgres stores no NUL."""


def _language_code(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == AUTO:
        return None
    try:
        return language_code(value)
    except UnknownLanguage as error:
        raise PydanticCustomError(UNKNOWN_LANGUAGE, "{problem}", {"problem": str(error)}) from error


def whole(value: object) -> object:
    """Return an integer that is written as 1.0, as JSON Schema takes it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json_object(value: object) -> object:
    """Return an object that Postgres can store: a member of a JSON body, or a form field's text."""
    try:
        found = from_json(value, allow_inf_nan=False) if isinstance(value, str) else value
        # JSON parsers make numbers beyond a float infinite.
        kept = json.dumps(found, allow_nan=False)
    except ValueError as error:
        raise PydanticCustomError("json_object", "expected a JSON object") from error
    if not isinstance(found, dict) or ESCAPED_NUL.search(kept):
        raise PydanticCustomError("json_object", "expected a JSON object, without NUL characters")
    return found


def _metadata(value: object) -> object:
    found = _json_object(value)
    is_text = isinstance(value, str)
    as_sent = value if is_text else json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    if len(str(as_sent).encode()) > MAX_METADATA_BYTES:
        raise PydanticCustomError(
            "too_long", "of at most {most}", {"most": size(MAX_METADATA_BYTES)}
        )
    return found


MAX_SPEAKERS = 50
"""The most that may be expected of a recording: clustering tells no more apart."""


class AskedSpeakers(BaseModel):
    """What is known and wanted of the people who speak."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: Annotated[int | None, BeforeValidator(whole)] = Field(
        default=None, ge=1, le=MAX_SPEAKERS, description="at least so many"
    )
    max: Annotated[int | None, BeforeValidator(whole)] = Field(
        default=None, ge=1, le=MAX_SPEAKERS, description="at most so many"
    )
    count: Annotated[int | None, BeforeValidator(whole)] = Field(
        default=None, ge=1, le=MAX_SPEAKERS, description="exactly so many"
    )
    identify: bool = Field(
        default=False, description="compare them with the tenant's voices (`GET /voices`)"
    )

    def check(self) -> None:
        """Refuse members that contradict each other.

        Raises:
            ConflictingOptions: they do.
        """
        if self.count is not None and (self.min is not None or self.max is not None):
            raise ConflictingOptions("speakers: count stands without min and max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConflictingOptions("speakers: min is greater than max")


def _speakers(value: object) -> object:
    """Return the object in a form field's text; what is no object is a boolean."""
    is_object = isinstance(value, str) and value.lstrip().startswith("{")
    return _json_object(value) if is_object else value


def _kind_of_speakers(value: object) -> str:
    return "described" if isinstance(value, dict | AskedSpeakers) else "wanted"


_COUNT_SCHEMA = {"type": "integer", "minimum": 1, "maximum": MAX_SPEAKERS}

Speakers = Annotated[
    Annotated[bool, Tag("wanted")] | Annotated[AskedSpeakers, Tag("described")],
    Discriminator(_kind_of_speakers),
    BeforeValidator(_speakers),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        **dict.fromkeys(("min", "max", "count"), _COUNT_SCHEMA),
                        "identify": {"type": "boolean"},
                    },
                },
            ]
        }
    ),
]


def _texts_by_text(value: object) -> object:
    found = _json_object(value)
    if isinstance(found, dict) and not all(isinstance(each, str) for each in found.values()):
        raise PydanticCustomError("json_object", "expected a JSON object whose values are texts")
    return found


def _spellings(value: dict[str, str]) -> dict[str, str]:
    if len(json.dumps(value, ensure_ascii=False)) > MAX_EDIT_CHARS:
        raise PydanticCustomError(
            "too_long", "of at most {most} characters", {"most": MAX_EDIT_CHARS}
        )
    return value


Spelling = Annotated[dict[str, str], BeforeValidator(_texts_by_text), AfterValidator(_spellings)]
"""Words or phrases, and what is written in their place."""

Language = Annotated[str | None, BeforeValidator(_language_code)]
"""An ISO 639 code, from what people type; None for 'auto'."""


class JobOptions(BaseModel):
    """The options of ``POST /jobs``; all of them optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        default=None,
        max_length=_MAX_NAME_CHARS,
        description=f"catalogue id; omitted or 'auto': {AUTO_RULE}",
    )
    wait_for_worker: bool = Field(
        default=False,
        description="true: take the job although no worker serves its model, and wait for one; to "
        "be given before the file, as what is refused is refused before that is read",
    )
    language: Language = Field(
        default=None,
        max_length=_MAX_NAME_CHARS,
        description="of the speech: an ISO 639 code, or what means one, as 'en-US' or 'English'; "
        "'auto' or omitted: the model detects it",
    )
    task: Literal["transcribe", "translate"] = Field(
        default="transcribe", description="'translate': into English, by models that can"
    )
    prompt: str | None = Field(
        default=None,
        max_length=1_000,
        description="text in whose style and spelling to write, by models that take one",
    )
    hotwords: str | None = Field(
        default=None,
        max_length=MAX_HOTWORDS_CHARS,
        description="words to expect, by models that take a prompt",
    )
    vad: VadName | None = Field(
        default=None, description="voice activity detector; omitted: the model's own"
    )
    multichannel: bool = Field(
        default=False, description="transcribe each channel apart, merged by time"
    )
    speakers: Speakers = Field(
        default=False,
        description="true: tell who says what; or what is known of their number, such as "
        '{"count": 2} or {"min": 2, "max": 5}; {"identify": true} compares them with the voices '
        "that are known; with multichannel each channel is a speaker",
    )
    multilingual: bool = Field(
        default=False, description="detect the language of each chunk, not once for the whole"
    )
    track: str | None = Field(
        default=None,
        max_length=_MAX_NAME_CHARS,
        description="the audio track: its number, from 0, or its language; omitted: the default "
        "one or, where that is silent, the next",
    )
    strict: bool = Field(
        default=False, description="refuse a file that is cut off or damaged, however little"
    )
    reference: str | None = Field(
        default=None,
        max_length=MAX_REFERENCE_CHARS,
        description="what was really said: error rates are measured against it",
    )
    priority: Annotated[int, BeforeValidator(whole)] = Field(
        default=0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="of jobs that wait, those with the higher priority go first; above 0 it needs "
        "the scope jobs:priority",
    )
    cache: bool = Field(
        default=True, description="false: transcribe even if the same was transcribed before"
    )
    metadata: Annotated[dict[str, Any], BeforeValidator(_metadata)] = Field(
        default={},
        description='a JSON object, such as {"order": 17}, of at most '
        f"{size(MAX_METADATA_BYTES)}, returned with the job and in its webhook events",
    )
    numerals: bool = Field(
        default=False, description="write English number words as digits: 'twenty one' as 21"
    )
    mask: str | None = Field(
        default=None,
        max_length=MAX_EDIT_CHARS,
        description="words or phrases, separated by commas, that are shown as asterisks",
    )
    spelling: Spelling = Field(
        default={},
        description="a JSON object of words or phrases and what is written instead, such as "
        f'{{"long hand": "Longhand"}}, of at most {MAX_EDIT_CHARS:,} characters',
    )
    webhook_url: str | None = Field(
        default=None,
        description="told of this job's end, beside the webhooks of /webhooks; such as "
        "https://your-receiver.example/longhand; needs webhook_secret",
    )
    webhook_secret: str | None = Field(
        default=None,
        description="signs what is sent to webhook_url: whsec_ and the base64 of 24 to 64 bytes",
    )

    @field_validator(
        *("model", "prompt", "hotwords", "track", "reference", "mask"),
        *("webhook_url", "webhook_secret"),
    )
    @classmethod
    def _without_nul(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise PydanticCustomError("nul", "it contains a NUL character")
        return value


class SpeakerOptions(BaseModel):
    """How the speakers of a job are told apart."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = Field(
        default=None, description="catalogue id of the diarization; null: each channel is a speaker"
    )
    min: int | None = None
    max: int | None = None
    count: int | None = None
    identify: bool = Field(default=False, description="compared with the tenant's voices")

    @property
    def hints(self) -> SpeakerHints:
        """What is known of their number."""
        return SpeakerHints(self.min, self.max, self.count)


class ResolvedOptions(BaseModel):
    """The options that a job's transcript depends on, with every default filled in.

    They are stored with the job as JSON. Another version may have written it: missing members have
    defaults, and unknown ones are ignored.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    language: str | None = Field(default=None, description="None: to be detected")
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: str | None = None
    hotwords: str | None = None
    vad: VadName
    multichannel: bool = False
    multilingual: bool = False
    track: str | None = None
    strict: bool = False
    speakers: SpeakerOptions | None = Field(
        default=None, description="None: they are not told apart"
    )
    edits: Edits | None = Field(
        default=None, description="of the text as it is read; None: none are wanted"
    )

    @property
    def diarization(self) -> str | None:
        """The catalogue id of the model that tells speakers apart; None: none does."""
        return None if self.speakers is None else self.speakers.model

    def text_language(self, spoken: str | None) -> str | None:
        """Return the language of a transcript of speech in ``spoken``; None: each chunk's own."""
        if self.task == "translate":
            return "en"
        return None if self.multilingual else spoken


def check_options(options: JobOptions, model: Model) -> None:
    """Refuse what the model cannot do.

    Raises:
        UnsupportedLanguage: the model does not speak the language.
        UnsupportedOption: the model cannot do what is asked of it.
    """
    if options.language is not None and not model.speaks(options.language):
        known = ", ".join(sorted(model.languages or ()))
        raise UnsupportedLanguage(
            f"model '{model.id}' does not know language '{options.language}'; it knows {known}"
        )
    if options.task == "translate" and not model.translates:
        raise UnsupportedOption(f"model '{model.id}' cannot translate")
    if (options.prompt or options.hotwords) and not model.takes_prompt:
        raise UnsupportedOption(f"model '{model.id}' takes neither prompt nor hotwords")
    if options.multilingual and not model.detects_language:
        raise UnsupportedOption(f"model '{model.id}' does not detect languages")
    if options.multilingual and options.language is not None:
        raise UnsupportedOption("a multilingual job cannot name one language")


def needs_diarization(options: JobOptions) -> bool:
    """Whether a model is to tell speakers apart: with ``multichannel`` the channels do."""
    return options.speakers is not False and not options.multichannel


def resolve_options(
    options: JobOptions, model: Model, diarization: DiarizationModel | None = None
) -> ResolvedOptions:
    """Fill in what the client left open, for the models that were chosen."""
    resolved = {
        "model": model.id,
        "language": options.language or model.only_language,
        "prompt": options.prompt or None,
        "hotwords": options.hotwords or None,
        "vad": options.vad or model.vad,
        "track": (options.track or "").strip() or None,
        "edits": edits_of(options),
        "speakers": _speaker_options(options, diarization),
    }
    return ResolvedOptions.model_validate(options.model_dump() | resolved)


def _speaker_options(
    options: JobOptions, diarization: DiarizationModel | None
) -> SpeakerOptions | None:
    if options.speakers is False:
        return None
    if diarization is None:
        return SpeakerOptions()
    counts = {} if options.speakers is True else options.speakers.model_dump()
    return SpeakerOptions(model=diarization.id, **counts)


def edits_of(options: JobOptions) -> Edits | None:
    """Return the edits of a transcript; None: there are none."""
    words = [each.strip() for each in (options.mask or "").split(",")]
    edits = Edits(
        spelling=options.spelling, numerals=options.numerals, mask=[each for each in words if each]
    )
    return None if edits == Edits() else edits


def fingerprint(sha256: str, options: ResolvedOptions, catalogue: Catalogue) -> str:
    """Return a digest of all that a transcript depends on; equal digests mean equal transcripts.

    ``sha256`` is the hex digest of the source's bytes. Edits do not count: they are made as a
    transcript is read.
    """
    used = {"engine", "source", "revision", "window_s", "decode"}
    models: list[Model | DiarizationModel] = [catalogue.get(options.model)]
    if options.diarization is not None:
        models.append(catalogue.diarizers[options.diarization])
    facts = (
        sha256,
        *(each.model_dump_json(include=used) for each in models),
        options.model_dump_json(exclude={"edits"}),
    )
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
