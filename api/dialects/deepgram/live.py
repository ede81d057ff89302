"""``WS /v1/listen``: live sessions in Deepgram's messages.

The session begins with the handshake, whose query says all that it is to be. A final's ``Results``
cover the audio from the final before it, so together they cover the whole session.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_OID, uuid4, uuid5

from fastapi import APIRouter
from pydantic import BaseModel, Field, TypeAdapter
from starlette.websockets import WebSocket

from api.access.routes import needs
from api.dialects.deepgram.errors import answer_error
from api.dialects.deepgram.live_query import Asked, read_live_query
from api.dialects.deepgram.live_tables import LIVE
from api.dialects.deepgram.query import hotwords_of
from api.dialects.deepgram.tables import MODELS
from api.dialects.live import DialectConnection, Talker, let_talk
from api.live.errors import INVALID_PAYLOAD, LiveError
from api.live.messages import read_message
from api.live.timing import Timing
from shared.infra.errors import InvalidParameter, RequestError
from shared.models.options import MAX_HOTWORDS_CHARS, edits_of
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.dialects.words import bare, mean_confidence, plain
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

_MAX_ECHO_CHARS = 1_000


class _Finalize(BaseModel):
    type: Literal["Finalize"]
    channel: Literal[0] | None = None


class _CloseStream(BaseModel):
    type: Literal["CloseStream"]


class _KeepAlive(BaseModel):
    type: Literal["KeepAlive"]


class _Configure(BaseModel):
    type: Literal["Configure"]
    keyterms: list[str] | None = None
    features: dict[str, bool] | None = None


_MESSAGES: TypeAdapter[_Finalize | _CloseStream | _KeepAlive | _Configure] = TypeAdapter(
    Annotated[_Finalize | _CloseStream | _KeepAlive | _Configure, Field(discriminator="type")]
)


@needs(Scope.LIVE)
@router.websocket("/v1/listen")
async def serve_live(websocket: WebSocket) -> None:
    """Serve a live session."""
    talker = await let_talk(websocket, answer_error, MODELS)
    if talker is None:
        return
    try:
        language = talker.live.settings.live_language or None
        asked = read_live_query(websocket.query_params, talker.find_model, language)
    except RequestError as error:
        await websocket.send_denial_response(answer_error(websocket, error))
        return
    await LiveConnection(talker, asked).run()


class LiveConnection(DialectConnection):
    """A client of Deepgram's live API."""

    answer_error = staticmethod(answer_error)

    def __init__(self, talker: Talker, asked: Asked) -> None:
        super().__init__(talker)
        self._asked = asked
        self._id = str(uuid4())
        self._created = datetime.now(UTC)
        self._sha256 = hashlib.sha256()
        self._text = ""
        """The text message that is followed."""
        self._final_until = 0
        self._last_word_end: int | None = None
        """Of the finals; None: the utterance's end is told, or there was no word since."""

    def on_handshake(self) -> None:
        """Begin the session."""
        self.begin(self._id, self._asked.wish)

    async def on_text(self, text: str) -> None:
        """Follow a message."""
        self._text = text
        message = read_message(_MESSAGES, text)
        assert self.session is not None
        match message:
            case _Finalize():
                self.do(self.session.flush())
            case _CloseStream():
                self.finish()
            case _Configure():
                self._configure(message)

    async def take_audio(self, audio: bytes) -> None:
        """Take a message of audio; an empty one ends the stream, as clients of old do."""
        if not audio:
            self.finish()
            return
        self._sha256.update(audio)
        await super().take_audio(audio)

    def on_audio(self) -> None:
        """Do nothing: the session has begun."""

    def on_heard(self) -> None:
        """Tell that an utterance has ended once no word has followed for long enough."""
        self._tell_utterance_end()

    def tell(self, event: Event, timing: Timing | None) -> None:  # noqa: ARG002
        """Send what an event means."""
        match event:
            case SpeechStarted():
                if self._asked.vad_events:
                    self._send("SpeechStarted", channel=[0], timestamp=_seconds(event.at))
            case Partial():
                self._tell_results(event.words, event.words[-1].end, key=event.segment)
            case Failed():
                self._tell_error("InferenceError", f"a segment could not be heard: {event.code}")
            case Final():
                self._tell_final(event)
            case Ended(reason=EndReason.COMPLETED):
                self._tell_utterance_end()
                self._tell_metadata(event)
            case Ended(reason=EndReason.TIMEOUT):
                self._tell_metadata(event)
                self.end_with(1011, "NET-0001")

    def tell_error(self, error: LiveError) -> None:
        """Send an error; that text comes late, or that interim results are left out, is none."""
        if error.close == INVALID_PAYLOAD:
            self._tell_error("InferenceError", str(error))
        elif error.code == "INVALID_MESSAGE":
            self._tell_error("SchemaError", str(error), message=self._text[:_MAX_ECHO_CHARS])
        elif error.close is not None:
            self._tell_error("InternalError", str(error))

    def close_for(self, error: LiveError) -> tuple[int, str]:
        """Return Deepgram's code and reason."""
        if error.close == INVALID_PAYLOAD:
            return 1008, "DATA-0000"
        return super().close_for(error)

    def _configure(self, message: _Configure) -> None:
        features = {name: str(value).lower() for name, value in (message.features or {}).items()}
        code = "CONFIGURE_INTERNAL_ERROR"
        try:
            counts = LIVE.check(features)
            if unknown := counts.keys() - {"punctuate", "smart_format", "numerals"}:
                raise InvalidParameter(f"{min(unknown)} stays as the session began")
            if message.keyterms is not None:
                hotwords = hotwords_of(message.keyterms, ())
                if len(hotwords or "") > MAX_HOTWORDS_CHARS:
                    code = "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"
                    raise InvalidParameter(f"more than {MAX_HOTWORDS_CHARS:,} characters")
                code = "CONFIGURE_KEYTERMS_NOT_SUPPORTED"
                self.change(hotwords=hotwords)
        except (RequestError, LiveError) as error:
            self._send("ConfigureFailure", request_id=self._id, code=code, description=str(error))
            return
        if numerals := counts.pop("numerals", None):
            job = self._asked.wish.job
            self.edit(edits_of(job.model_copy(update={"numerals": numerals == "true"})))
        if counts:
            self._asked.formatted = "true" in counts.values()
        changed: dict[str, Any] = {} if message.keyterms is None else {"keyterms": message.keyterms}
        self._send("ConfigureSuccess", request_id=self._id, **changed)

    def _tell_final(self, final: Final) -> None:
        self._tell_results(
            final.words,
            final.end,
            is_final=True,
            speech_final=self._asked.speech_final and final.cause is not Cause.LIMIT,
            from_finalize=final.cause is Cause.FLUSH,
            language=final.language,
            speakers=final.speakers_of_words,
        )
        self._final_until = final.end
        if final.words:
            self._last_word_end = final.words[-1].end

    def _tell_results(
        self,
        words: Sequence[WordHypothesis],
        until: int,
        *,
        is_final: bool = False,
        speech_final: bool = False,
        from_finalize: bool = False,
        language: str | None = None,
        speakers: Sequence[int | None] = (),
        key: str | None = None,
    ) -> None:
        start, until = self._final_until, max(self._final_until, until)
        confidence = mean_confidence(word.confidence for word in words)
        alternative: dict[str, Any] = {
            "transcript": text_of(words if self._asked.formatted else plain(words)),
            "confidence": confidence or 0.0,
            "words": [*map(self._word, words)],
        }
        if self._asked.speakers:
            for word, speaker in zip(alternative["words"], speakers, strict=False):
                word["speaker"] = speaker
        if self._asked.multilingual and language is not None:
            alternative["languages"] = [language]
        self._send(
            "Results",
            key,
            channel_index=[0, 1],
            start=_seconds(start),
            duration=_seconds(until - start),
            is_final=is_final,
            speech_final=speech_final,
            from_finalize=from_finalize,
            channel={"alternatives": [alternative]},
            metadata={"request_id": self._id, **self._model()},
        )

    def _word(self, word: WordHypothesis) -> dict[str, Any]:
        text = word.text.strip()
        found = {
            "word": bare(text),
            "start": _seconds(word.start),
            "end": _seconds(word.end),
            "confidence": round(word.confidence or 0.0, 4),
        }
        return found | ({"punctuated_word": text} if self._asked.formatted else {})

    def _model(self) -> dict[str, Any]:
        assert self.session is not None
        model = self._catalogue.get(self.session.options.model)
        about: dict[str, Any] = {
            "model_info": {"name": model.id, "version": "", "arch": model.engine},
            "model_uuid": str(uuid5(NAMESPACE_OID, model.id)),
        }
        if self._asked.speakers and (diarizer := self._live.diarizer()) is not None:
            arch = self._catalogue.diarizers[diarizer].engine
            model_uuid = str(uuid5(NAMESPACE_OID, diarizer))
            about["diarize_info"] = {"model_uuid": model_uuid, "arch": arch}
        return about

    def _tell_utterance_end(self) -> None:
        silence, end = self._asked.utterance_end, self._last_word_end
        if silence is None or end is None or self.session is None:
            return
        # Not where the words of a final go on that is late.
        if self.session.quiet_until - end >= silence:
            self._last_word_end = None
            self._send("UtteranceEnd", channel=[0, 1], last_word_end=_seconds(end))

    def _tell_metadata(self, ended: Ended) -> None:
        self._send(
            "Metadata",
            transaction_key="deprecated",
            request_id=self._id,
            sha256=self._sha256.hexdigest(),
            created=self._created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            duration=_seconds(ended.n_samples),
            channels=1,
        )

    def _tell_error(self, variant: str, description: str, **members: Any) -> None:
        self._send("Error", variant=variant, description=description, **members)


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)
