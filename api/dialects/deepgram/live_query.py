"""The query of Deepgram's live API, and the session that it asks for here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams

from api.dialects.deepgram.live_tables import LIVE
from api.dialects.deepgram.query import (
    MULTILINGUAL,
    check_query,
    hotwords_of,
    invalid_parameter,
    spelling_of,
)
from api.live.sessions import LEAST_SILENCE_MS, Encoding, SampleRate, Wish
from shared.infra.errors import InvalidParameter
from shared.models.options import JobOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.options import samples_of

_PCM: Mapping[str, Encoding] = {
    "linear16": "pcm_s16le",
    "mulaw": "pcm_mulaw",
    "alaw": "pcm_alaw",
}


class _Query(BaseModel):
    """What a query may say, after the table's check."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    language: str | None = None
    encoding: Literal["linear16", "mulaw", "alaw", "flac", "ogg-opus"] | None = None
    sample_rate: int | None = None
    punctuate: bool = False
    smart_format: bool = False
    interim_results: bool = False
    endpointing: (
        Literal["true", "false"] | Annotated[float, Field(ge=0, le=60_000, allow_inf_nan=False)]
    ) = "true"
    utterance_end_ms: int | None = Field(default=None, ge=1_000, le=60_000)
    vad_events: bool = False
    keyterm: list[str] = []
    keywords: list[str] = []
    numerals: bool = False
    replace: list[str] = []
    diarize: bool = False
    diarize_model: Literal["latest", "v1"] | None = None


@dataclass(slots=True)
class Asked:
    """What a client asks of a session, and how it is told of it."""

    wish: Wish
    formatted: bool
    """With capitals and punctuation; ``Configure`` may change it."""
    speech_final: bool
    """Whether the ends of speech are told as such."""
    utterance_end: int | None
    """Samples without a word after which an utterance is told to have ended; None: it is not."""
    vad_events: bool
    multilingual: bool
    speakers: bool
    """Whether each word's speaker is told."""


def read_live_query(
    given: QueryParams, find_model: Callable[[str | None], str], language: str | None
) -> Asked:
    """Return what a query asks for; ``language`` is that of clients that name none.

    Raises:
        InvalidParameter: a parameter is unknown, given twice, or not what it should be.
        UnsupportedParameter: one is refused.
        UnknownModel: there is no such model.
    """
    try:
        query = _Query.model_validate(check_query(given, LIVE))
        is_multilingual = query.language == MULTILINGUAL
        job = JobOptions(
            model=find_model(query.model),
            language=None if is_multilingual else query.language or language,
            hotwords=hotwords_of(query.keyterm, query.keywords),
            numerals=query.numerals,
            spelling=spelling_of(query.replace),
            speakers=query.diarize or query.diarize_model is not None,
        )
    except ValidationError as error:
        raise invalid_parameter(error) from error
    silence_ms = None
    if isinstance(query.endpointing, float):
        silence_ms = max(LEAST_SILENCE_MS, query.endpointing)
    return Asked(
        Wish(
            job,
            vad=True,
            partials=query.interim_results,
            encoding=_PCM.get(query.encoding or "", "container"),
            sample_rate=_rate_of(query),
            min_silence_ms=silence_ms,
        ),
        formatted=query.punctuate or query.smart_format,
        speech_final=query.endpointing != "false",
        utterance_end=query.utterance_end_ms and samples_of(query.utterance_end_ms),
        vad_events=query.vad_events,
        multilingual=is_multilingual,
        speakers=job.speakers is not False,
    )


def _rate_of(query: _Query) -> int:
    if query.encoding not in _PCM:
        return SAMPLE_RATE
    rates: tuple[int, ...] = get_args(SampleRate)
    if query.sample_rate not in rates:
        known = ", ".join(map(str, rates))
        raise InvalidParameter(f"sample_rate: {query.encoding} needs one of {known}", "sample_rate")
    return query.sample_rate
