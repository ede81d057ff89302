"""``/ws/stt``: sessions with partials, finals and voice activity; docs/live.md describes it."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import Field, TypeAdapter
from starlette.websockets import WebSocket

from api.live.connection import Connection
from api.live.errors import LiveError
from api.live.messages import Message, read_message
from api.live.recording import Recordings
from api.live.sessions import Encoding, LiveSessions, SampleRate, Wish
from api.live.timing import Timing
from shared.models.options import (
    MAX_EDIT_CHARS,
    MAX_HOTWORDS_CHARS,
    JobOptions,
    Language,
    Speakers,
    Spelling,
)
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.live.events import (
    Ended,
    Event,
    Failed,
    Final,
    Partial,
    SpeechEnded,
    SpeechStarted,
)
from shared.speech.live.session import LiveSession


class Config(Message):
    """What a session may ask for; all of it optional."""

    model: str | None = None
    lang_code: Language = None
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: str | None = Field(default=None, max_length=1_000)
    hotwords: str | None = Field(default=None, max_length=MAX_HOTWORDS_CHARS)
    speakers: Speakers = False
    spelling: Spelling = Field(default={})
    numerals: bool = False
    mask: str | None = Field(default=None, max_length=MAX_EDIT_CHARS)
    encoding: Encoding = "pcm_s16le"
    sample_rate: SampleRate = 16_000
    vad_enabled: bool | None = None
    vad_threshold: float | None = Field(default=None, ge=0, le=1)
    partial_results: bool = True
    word_timestamps: bool = True
    save: bool = False


class StartSession(Message):
    """Begins the connection's session."""

    type: Literal["start_session"]
    session_id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=128)
    config: Config = Config()
    resume_token: str | None = Field(default=None, min_length=1, max_length=128)
    last_segment: str = Field(default="", max_length=128)


class Flush(Message):
    """Asks for the final of what was said so far."""

    type: Literal["flush"]


class EndSession(Message):
    """Ends the session after its finals."""

    type: Literal["end_session"]


class Cancel(Message):
    """Ends the session at once."""

    type: Literal["cancel"]


_MESSAGES: TypeAdapter[StartSession | Flush | EndSession | Cancel] = TypeAdapter(
    Annotated[StartSession | Flush | EndSession | Cancel, Field(discriminator="type")]
)


class SttConnection(Connection):
    """A client of ``/ws/stt``."""

    def __init__(
        self, websocket: WebSocket, live: LiveSessions, tenant: str, recordings: Recordings
    ) -> None:
        super().__init__(websocket, live, tenant)
        self._recordings = recordings

    _with_words = True
    _wanted_id = ""
    """The latest id that a session was to have."""

    async def on_text(self, text: str) -> None:
        """Follow a message."""
        message = read_message(_MESSAGES, text)
        if isinstance(message, StartSession):
            await self._start(message)
            return
        if self.session is None:
            raise LiveError("INVALID_MESSAGE", f"'{message.type}' before 'start_session'.")
        match message:
            case Flush():
                self.do(self.session.flush())
            case EndSession():
                self.finish()
            case Cancel():
                self.do(self.session.cancel())

    def on_audio(self) -> None:
        """Refuse audio without a session."""
        if self.session is None:
            raise LiveError("INVALID_MESSAGE", "Audio before 'start_session'.")

    def tell(self, event: Event, timing: Timing | None) -> None:
        """Send what an event means."""
        match event:
            case SpeechStarted():
                self._send("vad_event", state="speech_start", t_ms=_ms(event.at))
            case SpeechEnded():
                self._send("vad_event", state="speech_end", t_ms=_ms(event.at))
            case Partial():
                self._send(
                    "partial_transcript",
                    key=event.segment,
                    segment_id=event.segment,
                    text=event.text,
                    stable_text=event.stable_text,
                    confidence=confidence_of(event.words),
                    is_final=False,
                    preflight=event.is_preflight,
                    timing=_timing(timing),
                )
            case Final():
                self._send_final(
                    event,
                    segment_id=event.segment,
                    text=event.text,
                    confidence=confidence_of(event.words),
                    is_final=True,
                    language=event.language,
                    reason=event.cause,
                    speaker=event.speaker,
                    words=[*map(_word, event.words, event.speakers_of_words)]
                    if self._with_words
                    else [],
                    start_ms=_ms(event.start),
                    audio_duration_ms=_ms(event.end - event.start),
                    timing=_timing(timing),
                )
            case Failed():
                self.tell_error(
                    LiveError("INFERENCE_ERROR", f"A segment could not be heard: {event.code}.")
                )
            case Ended():
                self._send_end(event)

    def tell_error(self, error: LiveError) -> None:
        """Send an error."""
        self._send("error", code=error.code, message=str(error))

    async def _start(self, message: StartSession) -> None:
        self._wanted_id = message.session_id
        if self.session is not None:
            raise LiveError("SESSION_EXISTS", "This connection has a session.")
        if message.resume_token is not None:
            await self._resume(message.resume_token, message.last_segment)
            return
        session = self.begin(message.session_id, self._wish(message.config))
        config = message.config.model_dump(exclude_unset=True)
        config["model"] = session.options.model
        self._save(message.config, session)
        token = await self.recovery.begin({"session_id": message.session_id, "config": config})
        self._send("session_started", resume_token=token, acked_ms=0.0)
        if self.lacks_speakers:
            text = "No worker tells speakers apart now: finals have none until one does."
            self.tell_error(LiveError("SPEAKERS_UNAVAILABLE", text))

    async def _resume(self, token: str, last_segment: str) -> None:
        """Go on with a session: its id and config are those that it began with."""
        taken = await self.recovery.take_over(token, last_segment)
        self._wanted_id = taken.header["session_id"]
        config = Config.model_validate(taken.header["config"])
        session = self.begin(
            self._wanted_id,
            self._wish(config),
            start=taken.acked,
            n_finals=taken.n_finals,
            speakers=taken.speakers,
        )
        self._save(config, session, taken.former)
        self._send("session_started", resume_token=token, acked_ms=_ms(taken.acked))
        for final in taken.missing:
            self.repeat(final)

    def _wish(self, config: Config) -> Wish:
        language = config.lang_code
        if "lang_code" not in config.model_fields_set:
            language = self.default_language
        job = _job_of(config, config.model, language)
        self._with_words = config.word_timestamps
        return Wish(
            job,
            config.vad_enabled,
            config.vad_threshold,
            config.partial_results,
            config.encoding,
            config.sample_rate,
        )

    def _save(self, config: Config, session: LiveSession, former: str = "") -> None:
        """Record the session from now on if it is to be saved.

        ``former``: who had the session's checkpoint before, if it goes on.
        """
        if not config.save:
            return
        start = session.n_samples
        recording = self._recordings.go_on(former, start, self._tell_unsaved)
        if recording is None:
            asked = _job_of(config, session.options.model, session.options.language)
            about = {"session_id": self.session_id, "start_ms": _ms(start)}
            recording = self._recordings.begin(
                self._tenant, asked, about, start, self._tell_unsaved
            )
        self.record(recording)

    def _tell_unsaved(self) -> None:
        self.tell_error(LiveError("SAVE_FAILED", "The session goes on, and is not saved."))

    def _send_end(self, event: Ended) -> None:
        message = {
            "type": "session_ended",
            "session_id": self.session_id,
            "reason": event.reason,
            "total_audio_ms": _ms(event.n_samples),
            "total_segments": event.n_segments,
        }
        recording = self.recording
        if recording is None:
            self.send(message)
            return
        if recording.is_paused:  # another connection goes on with it
            self.send({**message, "job_id": None})
            return

        async def with_job() -> dict[str, Any]:
            return {**message, "job_id": await recording.job_id()}

        self.send_when(with_job)

    def _send_final(self, final: Final, **members: Any) -> None:
        message = {"type": "final_transcript", "session_id": self.session_id, **members}
        self.send_final(message, final)

    def _send(self, kind: str, key: str | None = None, **members: Any) -> None:
        session_id = self.session_id or self._wanted_id
        self.send({"type": kind, "session_id": session_id, **members}, key)


def _job_of(config: Config, model: str | None, language: str | None) -> JobOptions:
    """Return what a session asks for, as a job of the same audio would."""
    return JobOptions(
        model=model,
        language=language,
        task=config.task,
        prompt=config.prompt,
        hotwords=config.hotwords,
        speakers=config.speakers,
        spelling=config.spelling,
        numerals=config.numerals,
        mask=config.mask,
    )


def confidence_of(words: Sequence[WordHypothesis]) -> float | None:
    """Return the mean confidence of words; None where one has none."""
    known = [word.confidence for word in words if word.confidence is not None]
    return round(sum(known) / len(known), 3) if known and len(known) == len(words) else None


def _word(word: WordHypothesis, speaker: int | None) -> dict[str, Any]:
    return {
        "word": word.text.strip(),
        "start": round(word.start / SAMPLE_RATE, 3),
        "end": round(word.end / SAMPLE_RATE, 3),
        "probability": None if word.confidence is None else round(word.confidence, 3),
        "speaker": speaker,
    }


def _timing(timing: Timing | None) -> dict[str, float]:
    timing = timing or Timing(0.0, 0.0, 0.0, 0.0)
    names = "preprocess_ms", "queue_wait_ms", "inference_ms", "postprocess_ms", "server_total_ms"
    return {name: round(getattr(timing, name), 1) for name in names}


def _ms(samples: int) -> float:
    return round(1000 * samples / SAMPLE_RATE, 2)
