"""``/v1/realtime?intent=transcription``: live sessions in OpenAI's events, today's and the beta's.

An item is a segment of the session. Its events come in this order: speech started, deltas, speech
stopped, committed, the last delta, completed or failed.
"""

from base64 import b64decode
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, Field, TypeAdapter
from starlette.websockets import WebSocket

from api.access.routes import needs
from api.dialects.live import DialectConnection, Talker, let_talk, milliseconds
from api.dialects.openai.answers import logprob_of
from api.dialects.openai.configuration import Configuration, read_configuration
from api.dialects.openai.errors import answer_error, error_object
from api.dialects.openai.tables import MODELS
from api.live.errors import LiveError
from api.live.messages import read_message
from api.live.timing import Timing
from api.problems import failure_of
from shared.infra.errors import InvalidParameter, RequestError
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.events import (
    Ended,
    EndReason,
    Event,
    Failed,
    Final,
    Partial,
    SpeechEnded,
    SpeechStarted,
)
from shared.store.accounts.scopes import Scope

router = APIRouter()

LEAST_COMMIT_BYTES = 4_800
"""100 ms: OpenAI takes no shorter commit."""

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class _Message(BaseModel):
    """A client's event; members that the protocol may add are passed over."""

    event_id: str | None = None


class _Update(_Message):
    type: Literal["session.update", "transcription_session.update"]
    session: dict[str, Any]


class _Append(_Message):
    type: Literal["input_audio_buffer.append"]
    audio: str


class _Commit(_Message):
    type: Literal["input_audio_buffer.commit"]


class _Clear(_Message):
    type: Literal["input_audio_buffer.clear"]


_MESSAGES: TypeAdapter[_Update | _Append | _Commit | _Clear] = TypeAdapter(
    Annotated[_Update | _Append | _Commit | _Clear, Field(discriminator="type")]
)


@needs(Scope.LIVE)
@router.websocket("/v1/realtime")
async def serve_realtime(websocket: WebSocket) -> None:
    """Serve a transcription session."""
    talker = await let_talk(websocket, answer_error, MODELS)
    if talker is None:
        return
    if websocket.query_params.get("intent") != "transcription":
        error = InvalidParameter(
            "there are transcription sessions alone: intent=transcription", "intent"
        )
        await websocket.send_denial_response(answer_error(websocket, error))
        return
    await RealtimeConnection(talker).run()


class RealtimeConnection(DialectConnection):
    """A client of ``/v1/realtime``."""

    answer_error = staticmethod(answer_error)

    def __init__(self, talker: Talker) -> None:
        super().__init__(talker)
        self._is_beta = "realtime=v1" in talker.websocket.headers.get("openai-beta", "")
        self._configuration = Configuration()
        self._id = f"sess_{uuid4().hex}"
        self._asked_by: str | None = None
        """The client's id of the event that is followed."""
        self._item = ""
        """The item that is under way; empty: none is."""
        self._last_item: str | None = None
        self._told = ""
        """Of its text."""
        self._is_committed = self._has_failed = False
        self._n_uncommitted_bytes = 0
        self._tell_session("created")

    async def on_text(self, text: str) -> None:
        """Follow an event."""
        self._asked_by = None
        message = read_message(_MESSAGES, text)
        self._asked_by = message.event_id
        match message:
            case _Update():
                self._update(message)
            case _Append():
                await self._append(message.audio)
            case _Commit():
                self._commit()
            case _Clear():
                self._n_uncommitted_bytes = 0
                if self.session is not None:
                    self.do(self.session.discard())
                    if not self.session.is_waiting:  # else the item is of what was said before
                        self._close_item()
                self._send("input_audio_buffer.cleared")

    def on_audio(self) -> None:
        """Begin the session with the first audio, unless it was configured before."""
        if self.session is None:
            self.begin(self._id, self._configuration.wish(self._find_model, self.default_language))

    def tell(self, event: Event, timing: Timing | None) -> None:  # noqa: ARG002
        """Send what an event means."""
        match event:
            case SpeechStarted():
                item = self._open_item()
                self._send(
                    "input_audio_buffer.speech_started",
                    item_id=item,
                    audio_start_ms=milliseconds(event.at),
                )
            case SpeechEnded():
                item = self._open_item()
                self._send(
                    "input_audio_buffer.speech_stopped",
                    item_id=item,
                    audio_end_ms=milliseconds(event.at),
                )
                self._tell_committed()
            case Partial():
                self._open_item()
                self._tell_delta(event.stable_text)
            case Failed():
                self._tell_committed()
                self._has_failed = True
                error = {
                    "type": "server_error",
                    "code": event.code,
                    "message": "the item could not be heard",
                    "param": None,
                }
                self._send(f"{_TRANSCRIPTION}.failed", **self._part(), error=error)
            case Final():
                self._tell_final(event)
            case Ended(reason=EndReason.TIMEOUT):
                self._asked_by = None
                text = f"nothing was sent for {self.idle_s:g} s"
                self._tell_error(text, "invalid_request_error", "session_expired")

    def tell_error(self, error: LiveError) -> None:
        """Send an error."""
        mistaken = error.code in ("INVALID_MESSAGE", "SESSION_EXISTS")
        self._tell_error(
            str(error), "invalid_request_error" if mistaken else "server_error", error.code.lower()
        )

    def _update(self, message: _Update) -> None:
        self._is_beta = self._is_beta or message.type == "transcription_session.update"
        try:
            found = read_configuration(message.session, self._configuration)
            wish = found.wish(self._find_model, self.default_language)
            if self.session is None:
                self.begin(self._id, wish)
                self._configuration = found
            elif found.is_like(self._configuration):
                self.change(language=wish.job.language)
                self._configuration = found
            else:
                raise InvalidParameter("after the first update only the language may change")
        except RequestError as error:
            told = error_object(failure_of(error))
            self._send("error", error={**told, "event_id": self._asked_by})
        else:
            self._tell_session("updated")

    async def _append(self, audio: str) -> None:
        try:
            pcm = b64decode(audio, validate=True)
        except ValueError as error:
            raise LiveError("INVALID_MESSAGE", f"audio: {error}") from error
        self._n_uncommitted_bytes += len(pcm)
        await self.take_audio(pcm)

    def _commit(self) -> None:
        if self.session is None or self._n_uncommitted_bytes < LEAST_COMMIT_BYTES:
            self._tell_error(
                "the buffer has less than 100 ms of audio",
                "invalid_request_error",
                "input_audio_buffer_commit_empty",
            )
            return
        self._n_uncommitted_bytes = 0
        self.do(self.session.flush())

    def _open_item(self) -> str:
        if not self._item:
            self._item = f"item_{uuid4().hex}"
            self._told = ""
            self._is_committed = self._has_failed = False
        return self._item

    def _close_item(self) -> None:
        self._item = ""

    def _part(self) -> dict[str, Any]:
        return {"item_id": self._open_item(), "content_index": 0}

    def _tell_committed(self) -> None:
        item = self._open_item()
        if not self._is_committed:
            self._is_committed = True
            self._send(
                "input_audio_buffer.committed", item_id=item, previous_item_id=self._last_item
            )
            self._last_item = item

    def _tell_delta(self, text: str) -> None:
        if text.startswith(self._told) and text != self._told:
            delta, self._told = text[len(self._told) :], text
            self._send(f"{_TRANSCRIPTION}.delta", **self._part(), delta=delta)

    def _tell_final(self, final: Final) -> None:
        self._tell_committed()
        if not self._has_failed:
            self._tell_delta(final.text)
            members: dict[str, Any] = {
                "transcript": final.text,
                "usage": {"type": "duration", "seconds": (final.end - final.start) / SAMPLE_RATE},
            }
            if final.language is not None:
                members["languages"] = [{"code": final.language}]
            if self._configuration.logprobs:
                members["logprobs"] = [
                    logprob_of(word.text, word.confidence) for word in final.words
                ]
            self._send(f"{_TRANSCRIPTION}.completed", **self._part(), **members)
        self._close_item()

    def _tell_session(self, what: Literal["created", "updated"]) -> None:
        kind = "transcription_session" if self._is_beta else "session"
        session = self._configuration.shown(self._id, beta=self._is_beta)
        self._send(f"{kind}.{what}", session=session)

    def _tell_error(self, message: str, kind: str, code: str) -> None:
        told = {"message": message, "type": kind, "param": None, "code": code}
        self._send("error", error={**told, "event_id": self._asked_by})

    def _send(self, kind: str, key: str | None = None, **members: Any) -> None:
        super()._send(kind, key, event_id=f"event_{uuid4().hex}", **members)
