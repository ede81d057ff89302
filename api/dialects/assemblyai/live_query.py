"""What AssemblyAI's streaming API is asked for, and the session that it is here."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from starlette.datastructures import QueryParams

from api.dialects.assemblyai.live_tables import STREAM, UPDATE
from api.dialects.live import MAX_PROMPT_CHARS
from api.live.sessions import LEAST_SILENCE_MS, Encoding, SampleRate, Wish
from api.validation import describe
from shared.infra.errors import InvalidParameter
from shared.models.options import AskedSpeakers, JobOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.online import MAX_SPEAKERS

_MAX_SILENCE_MS = 60_000
_PCM: Mapping[str, Encoding] = {"pcm_s16le": "pcm_s16le", "pcm_mulaw": "pcm_mulaw"}
_PLAIN_MODELS = "universal-streaming"
"""What the names of models begin with that write turns in bare words first."""


class Asked(BaseModel):
    """What a client asks for, after the table's check; ``UpdateConfiguration`` changes it."""

    model_config = ConfigDict(extra="forbid")

    sample_rate: int | None = None
    encoding: Literal["pcm_s16le", "pcm_mulaw", "ogg_opus", "aac"] = "pcm_s16le"
    speech_model: str | None = None
    language_code: str | None = None
    language: str | None = None
    language_codes: list[str] = []
    language_detection: bool = False
    keyterms_prompt: list[str] = []
    prompt: str | None = None
    format_turns: bool | None = None
    include_partial_turns: bool = True
    min_end_of_turn_silence_when_confident: int | None = Field(
        default=None, ge=0, le=_MAX_SILENCE_MS
    )
    min_turn_silence: int | None = Field(default=None, ge=0, le=_MAX_SILENCE_MS)
    max_turn_silence: int | None = Field(default=None, ge=0, le=_MAX_SILENCE_MS)
    vad_threshold: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    speaker_labels: bool = False
    max_speakers: int | None = Field(default=None, ge=1, le=MAX_SPEAKERS)
    inactivity_timeout: int | None = Field(default=None, ge=5, le=3_600)
    token: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether turns come in bare words, and only their ends formatted, if they do at all."""
        return (self.speech_model or _PLAIN_MODELS).startswith(_PLAIN_MODELS)

    @property
    def formats(self) -> bool:
        """Whether a turn's end comes as the model writes it."""
        return self.format_turns if self.format_turns is not None else not self.is_plain

    @property
    def silence_ms(self) -> float | None:
        """Silence that ends a turn; None: the client does not say."""
        given = (
            self.max_turn_silence,
            self.min_turn_silence,
            self.min_end_of_turn_silence_when_confident,
        )
        silence = next((each for each in given if each is not None), None)
        return None if silence is None else max(LEAST_SILENCE_MS, silence)

    @property
    def _speakers(self) -> bool | AskedSpeakers:
        if self.speaker_labels and self.max_speakers is not None:
            return AskedSpeakers(max=self.max_speakers)
        return self.speaker_labels

    def wish(self, find_model: Callable[[str | None], str], language: str | None) -> Wish:
        """Return the session; ``language`` is that of clients that name none.

        Raises:
            InvalidParameter: a value is of no use.
            UnknownModel: there is no such model.
        """
        codes = [code for code in (self.language_code, self.language, *self.language_codes) if code]
        several = len(set(codes)) > 1 or self.language_detection
        rates: tuple[int, ...] = get_args(SampleRate)
        is_pcm = self.encoding in _PCM
        if is_pcm and self.sample_rate not in rates:
            known = ", ".join(map(str, rates))
            raise InvalidParameter(f"sample_rate: one of {known} is needed", "sample_rate")
        try:
            job = JobOptions(
                model=find_model(self.speech_model),
                language=None if several else (*codes, language)[0],
                prompt=self.prompt and self.prompt[-MAX_PROMPT_CHARS:],
                hotwords=", ".join(self.keyterms_prompt) or None,
                speakers=self._speakers,
            )
        except ValidationError as error:
            raise _invalid(error) from error
        return Wish(
            job,
            vad=True,
            threshold=self.vad_threshold,
            partials=self.include_partial_turns,
            encoding=_PCM.get(self.encoding, "container"),
            sample_rate=self.sample_rate if is_pcm and self.sample_rate else SAMPLE_RATE,
            min_silence_ms=self.silence_ms,
        )


def read_live_query(given: QueryParams) -> Asked:
    """Return what a query asks for.

    Raises:
        InvalidParameter: a parameter is unknown, given twice, or not what it should be.
        UnsupportedParameter: one is refused.
    """
    values = {}
    for name, value in given.items():
        if len(given.getlist(name)) > 1:
            raise InvalidParameter(f"{name} is given twice", name)
        values[name] = _parsed(name, value)
    try:
        return Asked.model_validate(STREAM.check(values))
    except ValidationError as error:
        raise _invalid(error) from error


def read_update(given: Mapping[str, Any], before: Asked) -> Asked:
    """Return what is asked for after an update; what it does not name, or is null, stays.

    Raises:
        InvalidParameter: a member is unknown, cannot change, or is not what it should be.
        UnsupportedParameter: one is refused.
    """
    changes = UPDATE.check(given)
    try:
        return Asked.model_validate({**before.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        raise _invalid(error) from error


def _parsed(name: str, value: str) -> Any:
    """Return a value; SDKs send lists as JSON."""
    if name in ("language_codes", "keyterms_prompt"):
        try:
            return from_json(value)
        except ValueError as error:
            raise InvalidParameter(f"{name} is no JSON list", name) from error
    return value


def _invalid(error: ValidationError) -> InvalidParameter:
    field = str(error.errors()[0]["loc"][0])
    name = "keyterms_prompt" if field == "hotwords" else field
    return InvalidParameter(f"{name}: {describe(error)[0]['message']}", name)
