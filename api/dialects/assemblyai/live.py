"""``WS /v3/ws``: live sessions in AssemblyAI's messages.

A turn is a segment of the session. The connection is open before anything is checked but the key:
AssemblyAI's SDK waits for a second, and shows an error of a message but not of a handshake.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.websockets import WebSocket

from api.access.routes import needs
from api.dialects.assemblyai.errors import answer_error
from api.dialects.assemblyai.live_query import Asked, read_live_query, read_update
from api.dialects.assemblyai.tables import MODELS
from api.dialects.live import DialectConnection, Talker, invalid, let_talk, milliseconds
from api.live.errors import INVALID_PAYLOAD, Code, LiveError
from api.live.messages import read_message
from api.live.timing import Timing
from shared.infra.errors import RequestError
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.dialects.words import plain, speaker_letter
from shared.speech.live.events import (
    Cause,
    Ended,
    EndReason,
    Event,
    Failed,
    Final,
    Partial,
    SpeechStarted,
)
from shared.speech.live.words import text_of
from shared.store.accounts.scopes import Scope

router = APIRouter()

_INVALID, _SERVER_ERROR, _IDLE = 3006, 3005, 4031
_CLOSE_CODES: Mapping[Code, int] = {
    "INVALID_MESSAGE": _INVALID,
    "MAX_SESSIONS_REACHED": 3009,
    "QUEUE_FULL": 1013,
    "QUEUE_CONGESTION": 1013,
}
"""AssemblyAI's codes by ours; of all others: an error of the server's."""
_MAX_REASON_BYTES = 120
_LIFETIME = timedelta(days=1)
"""A session ends when its client ends it, but clients want to know when that is."""


class _Force(BaseModel):
    type: Literal["ForceEndpoint"]


class _KeepAlive(BaseModel):
    type: Literal["KeepAlive"]


class _Terminate(BaseModel):
    type: Literal["Terminate"]


class _Update(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["UpdateConfiguration"]


_MESSAGES: TypeAdapter[_Force | _KeepAlive | _Terminate | _Update] = TypeAdapter(
    Annotated[_Force | _KeepAlive | _Terminate | _Update, Field(discriminator="type")]
)


@needs(Scope.LIVE)
@router.websocket("/v3/ws")
async def serve_stream(websocket: WebSocket) -> None:
    """Serve a live session."""
    token = websocket.query_params.get("token", "")
    if (talker := await let_talk(websocket, answer_error, MODELS, token)) is not None:
        await StreamConnection(talker).run()


class StreamConnection(DialectConnection):
    """A client of AssemblyAI's streaming API."""

    answer_error = staticmethod(answer_error)

    def __init__(self, talker: Talker) -> None:
        super().__init__(talker)
        self._asked = Asked()
        self._began_s = time.monotonic()
        self._order = 0
        self._is_turn_told = False
        """Whether the turn under way has been told of."""

    def on_open(self) -> None:
        """Begin the session that the query asks for."""
        try:
            self._asked = read_live_query(self._websocket.query_params)
            wish = self._asked.wish(self._find_model, self.default_language)
        except RequestError as error:
            raise invalid(error) from error
        if self._asked.inactivity_timeout is not None:
            self.idle_s = float(self._asked.inactivity_timeout)
        try:
            session = self.begin(str(uuid4()), wish)
        except LiveError as error:
            raise LiveError(error.code, str(error), error.close or INVALID_PAYLOAD) from error
        self._send(
            "Begin",
            id=self.session_id,
            expires_at=int((datetime.now(UTC) + _LIFETIME).timestamp()),
            configuration={"model": session.options.model},
        )
        if self.lacks_speakers:
            self._warn("no worker tells speakers apart now")

    async def on_text(self, text: str) -> None:
        """Follow a message."""
        try:
            message = read_message(_MESSAGES, text)
        except LiveError as error:
            raise invalid(error) from error
        if self.session is None:
            return  # the connection is about to be closed
        match message:
            case _Force():
                self.do(self.session.flush())
            case _Terminate():
                self.finish()
            case _Update():
                self._update(message.model_extra or {})

    def on_audio(self) -> None:
        """Refuse audio for a session that could not begin."""
        if self.session is None:
            raise LiveError("INVALID_MESSAGE", "there is no session", INVALID_PAYLOAD)

    def tell(self, event: Event, timing: Timing | None) -> None:  # noqa: ARG002
        """Send what an event means."""
        match event:
            case SpeechStarted():
                if not self._asked.is_plain:
                    self._send("SpeechStarted", timestamp=milliseconds(event.at))
            case Partial():
                self._tell_partial(event)
            case Failed():
                self._warn(f"a turn could not be heard: {event.code}")
            case Final():
                self._tell_final(event)
            case Ended(reason=EndReason.COMPLETED):
                self._send(
                    "Termination",
                    audio_duration_seconds=round(event.n_samples / SAMPLE_RATE),
                    session_duration_seconds=round(time.monotonic() - self._began_s),
                )
            case Ended(reason=EndReason.TIMEOUT):
                text = f"nothing was sent for {self.idle_s:g} s"
                self._send("Error", error_code=_IDLE, error=text)
                self.end_with(_IDLE, text)

    def tell_error(self, error: LiveError) -> None:
        """Send an error that ends the session: one that does not is none to AssemblyAI's SDK."""
        if error.close is not None:
            code, _ = self.close_for(error)
            self._send("Error", error_code=code, error=str(error))

    def close_for(self, error: LiveError) -> tuple[int, str]:
        """Return AssemblyAI's code, and the text as far as there is room for it."""
        reason = str(error).encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        return _CLOSE_CODES.get(error.code, _SERVER_ERROR), reason

    def _update(self, given: Mapping[str, Any]) -> None:
        try:
            asked = read_update(given, self._asked)
            wish = asked.wish(self._find_model, self.default_language)
            wanted = self._live.options_of(wish)
            self.change(
                language=wanted.language,
                prompt=wanted.prompt,
                hotwords=wanted.hotwords,
                threshold=wanted.threshold,
                min_silence=wanted.min_silence,
            )
        except (RequestError, LiveError) as error:
            raise invalid(error) from error
        self._asked = asked

    def _tell_partial(self, partial: Partial) -> None:
        asked, self._is_turn_told = self._asked, True
        n_stable, words = partial.n_stable, partial.words
        told = words[:n_stable] if asked.is_plain else words
        is_formatted = asked.formats and not asked.is_plain
        text = text_of(told if is_formatted else plain(told))
        self._tell_turn(
            words,
            text,
            n_final=n_stable,
            formatted=is_formatted,
            utterance=text if partial.is_preflight else "",
            key=f"turn {self._order}",
        )

    def _tell_final(self, final: Final) -> None:
        if not (final.words or final.cause is Cause.FLUSH or self._is_turn_told):
            return
        asked = self._asked
        styles = [True] if asked.formats else [False]
        if asked.formats and asked.is_plain:
            styles = [False, True]
        for formatted in styles:
            text = text_of(final.words if formatted else plain(final.words))
            self._tell_turn(
                final.words,
                text,
                n_final=len(final.words),
                formatted=formatted,
                utterance=text,
                is_end=True,
                language=final.language if asked.language_detection else None,
                speakers=final.speakers_of_words,
                speaker=final.speaker,
            )
        self._order += 1
        self._is_turn_told = False

    def _tell_turn(
        self,
        words: Sequence[WordHypothesis],
        text: str,
        *,
        n_final: int,
        formatted: bool,
        utterance: str,
        is_end: bool = False,
        language: str | None = None,
        speakers: Sequence[int | None] = (),
        speaker: int | None = None,
        key: str | None = None,
    ) -> None:
        shown = words if formatted else plain(words)
        members: dict[str, Any] = {} if language is None else {"language_code": language}
        told = [_word(word, is_final=i < n_final) for i, word in enumerate(shown)]
        if is_end and self._asked.speaker_labels:
            members["speaker_label"] = speaker_letter(speaker)
            for word, number in zip(told, speakers, strict=True):
                word["speaker"] = speaker_letter(number)
        self._send(
            "Turn",
            key,
            turn_order=self._order,
            turn_is_formatted=formatted and is_end,
            end_of_turn=is_end,
            end_of_turn_confidence=1.0 if is_end else 0.0,
            transcript=text,
            utterance=utterance,
            words=told,
            **members,
        )

    def _warn(self, warning: str) -> None:
        self._send("Warning", warning_code=_SERVER_ERROR, warning=warning)


def _word(word: WordHypothesis, *, is_final: bool) -> dict[str, Any]:
    return {
        "text": word.text.strip(),
        "start": milliseconds(word.start),
        "end": milliseconds(word.end),
        "confidence": round(word.confidence or 0.0, 4),
        "word_is_final": is_final,
    }
