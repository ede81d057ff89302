"""Longhand as Pipecat's speech to text, over ``/ws/stt``."""

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loguru import logger
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessorSetup
from pipecat.services.settings import STTSettings
from pipecat.services.stt_latency import DEFAULT_TTFS_P99
from pipecat.services.stt_service import WebsocketSTTService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.protocol import State

from .sent import SAMPLE_RATE, Flush, Unacknowledged

REPLAY_SAMPLES = SAMPLE_RATE // 2
START_LIMIT_S = 10.0
END_LIMIT_S = 5.0
"""How long the last final may take when a pipeline ends."""
LATE = {"QUEUE_FULL", "QUEUE_CONGESTION"}
"""Codes of errors in a session that goes on: texts come later than usual."""
_FLUSH, _END_SESSION = (json.dumps({"type": kind}) for kind in ("flush", "end_session"))


@dataclass
class LonghandSTTSettings(STTSettings):
    """``model``: an id of the server's catalogue; ``language``; None: the server's choice."""


class LonghandSTTService(WebsocketSTTService):
    """Speech to text by a Longhand server.

    When the pipeline's voice activity detector hears the end of speech, the server is asked to
    finish the utterance at once. Where there is no such detector, the server's own one ends it.

    Audio is kept until its text is final, up to ``sent.LIMIT_S`` of it. When the connection is
    lost, the session goes on over a new one with that audio; if the server has forgotten the
    session, a new one begins with it.
    """

    Settings = LonghandSTTSettings
    _settings: LonghandSTTSettings

    def __init__(
        self,
        *,
        url: str = "ws://127.0.0.1:8000/ws/stt",
        settings: LonghandSTTSettings | None = None,
        ttfs_p99_latency: float | None = DEFAULT_TTFS_P99,
        **kwargs: Any,
    ) -> None:
        """Nothing is connected to yet.

        Args:
            url: the server's ``/ws/stt``.
            settings: model and language.
            ttfs_p99_latency: seconds from the end of speech to its final, as measured on your own
                machines; the default is Pipecat's for services that were not measured.
            **kwargs: those of ``WebsocketSTTService``.
        """
        chosen = LonghandSTTSettings(model=None, language=None)
        if settings is not None:
            chosen.apply_update(settings)
        super().__init__(settings=chosen, ttfs_p99_latency=ttfs_p99_latency, **kwargs)
        self._url = url
        self._resampler = create_stream_resampler()
        self._receive_task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        """Held while something is sent: a new connection first gets what is unacknowledged."""
        self._kept = Unacknowledged()
        self._origin = 0
        """Position of the session's first sample in what was sent."""
        self._token: str | None = None
        """Of the session that a new connection goes on with; None: it begins another one."""
        self._last_segment = ""
        self._has_ended_input = False
        self._ended = asyncio.Event()

    def can_generate_metrics(self) -> bool:
        """Whether latencies are measured."""
        return True

    def language_to_service_language(self, language: Language) -> str | None:
        """Return a language as the server takes it: an ISO 639 code, with or without a region."""
        return str(language)

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Connect."""
        await super().setup(setup)
        await self._connect()

    async def stop(self, frame: EndFrame) -> None:
        """Wait for the text of what was said, then disconnect."""
        async with self._turn:
            self._has_ended_input = True
            self._kept.append_flush()
            await self._pass_on(_FLUSH)
            await self._pass_on(_END_SESSION)
        if self._websocket is not None or self._reconnect_in_progress:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), END_LIMIT_S)
        await super().stop(frame)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Ask for the final when the pipeline hears the end of speech."""
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self.request_finalize()
            await self._flush()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Send audio, s16le, mono, at the pipeline's rate; the texts come on their own."""
        pcm = await self._resampler.resample(audio, self.sample_rate, SAMPLE_RATE)
        async with self._turn:
            self._kept.append(pcm)
            await self._pass_on(pcm)
        yield None

    async def _update_settings(self, delta: STTSettings) -> dict[str, Any]:
        changed = await super()._update_settings(delta)
        if changed:  # a session keeps the model and language with which it began
            self._token = None
            await self._request_reconnect()
        return changed

    async def _send_keepalive(self, silence: bytes) -> None:
        # It is part of the session's audio, which a new connection gets again.
        async for _ in self.run_stt(silence):
            self._record_stt_audio_usage(silence)

    async def _flush(self) -> None:
        async with self._turn:
            self._kept.append_flush()
            await self._pass_on(_FLUSH)

    async def _pass_on(self, message: bytes | str) -> None:
        """Send a message if there is a connection; a new one gets what this one misses."""
        if self._websocket is not None:
            with suppress(ConnectionClosed):  # the task that receives connects again
                await self._websocket.send(message)

    async def _connect(self) -> None:
        await super()._connect()
        await self._connect_websocket()
        if self._receive_task is None:
            self._receive_task = self.create_task(self._receive_task_handler(self._report_error))

    async def _disconnect(self) -> None:
        await super()._disconnect()
        if self._receive_task is not None:
            await self.cancel_task(self._receive_task)
            self._receive_task = None
        await self._disconnect_websocket()

    async def _connect_websocket(self) -> None:
        if self._websocket is not None and self._websocket.state is State.OPEN:
            return
        websocket = None
        try:
            websocket = await self._websocket_connect(self._url, open_timeout=START_LIMIT_S)
            async with asyncio.timeout(START_LIMIT_S):
                acked = await self._start_session(websocket)
            async with self._turn:
                await self._send_again(websocket, acked)
                self._websocket = websocket
        except (OSError, WebSocketException, ValueError) as error:  # OSError: also a time-out
            if websocket is not None:
                await websocket.close()
            await self.push_error(
                f"cannot start a session at {self._url}: {error}", exception=error
            )
            return
        await self._call_event_handler("on_connected")

    async def _start_session(self, websocket: ClientConnection) -> int:
        """Go on with the session or begin one; return up to which position its audio is known.

        Raises:
            ConnectionError: the server refuses.
        """
        if self._token is not None:
            answer = await _ask(
                websocket, resume_token=self._token, last_segment=self._last_segment
            )
            if answer["type"] == "session_started":
                return self._origin + _samples(answer["acked_ms"])
            if answer.get("code") != "SESSION_NOT_FOUND":
                raise _refusal(answer)
        config = {
            "model": self._settings.model,
            "lang_code": self._settings.language,
            "sample_rate": SAMPLE_RATE,
        }
        self._token, self._last_segment, self._origin = None, "", self._kept.start
        answer = await _ask(
            websocket,
            session_id=f"pipecat-{uuid.uuid4()}",
            config={name: value for name, value in config.items() if value is not None},
        )
        if answer["type"] != "session_started":
            raise _refusal(answer)
        self._token = answer.get("resume_token")
        return self._origin

    async def _send_again(self, websocket: ClientConnection, acked: int) -> None:
        for piece in [*self._kept.resume(acked, REPLAY_SAMPLES)]:
            await websocket.send(_FLUSH if isinstance(piece, Flush) else piece)
        if self._has_ended_input:
            await websocket.send(_END_SESSION)

    async def _disconnect_websocket(self) -> None:
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            await websocket.close()
            await self._call_event_handler("on_disconnected")

    async def _receive_messages(self) -> None:
        if self._websocket is None:
            raise ConnectionError(f"no connection to {self._url}")
        async for data in self._websocket:
            message = json.loads(data)
            match message["type"]:
                case "partial_transcript" if message["text"]:
                    await self._push(InterimTranscriptionFrame, message)
                case "final_transcript":
                    await self._push_final(message)
                case "error" if message["code"] in LATE:
                    logger.warning(f"{self} is late: {message['message']}")
                case "error":
                    if message["code"] == "SESSION_DISPLACED":
                        self._token = None  # it goes on elsewhere
                    await self.push_error(f"{message['message']} ({message['code']})")
                case "session_ended" if message["reason"] == "completed":
                    self._disconnecting = True  # the close that follows is no loss
                    self._ended.set()
                case "session_ended" if message["reason"] != "error":
                    self._token = None  # it cannot go on

    async def _push_final(self, message: dict[str, Any]) -> None:
        self._last_segment = message["segment_id"]
        end_ms = message["start_ms"] + message["audio_duration_ms"]
        self._kept.acknowledge(self._origin + _samples(end_ms))
        if message["reason"] == "flush":
            self._kept.acknowledge_flush()
        self.confirm_finalize()
        await self.emit_stt_usage_metrics()
        if message["text"]:
            await self._push(TranscriptionFrame, message)

    async def _push(
        self,
        kind: type[InterimTranscriptionFrame] | type[TranscriptionFrame],
        message: dict[str, Any],
    ) -> None:
        language = message.get("language") or self._settings.language
        with suppress(ValueError):  # one that Pipecat does not know
            language = Language(language) if language else None
        await self.push_frame(
            kind(
                message["text"],
                self._user_id,
                time_now_iso8601(),
                language if isinstance(language, Language) else None,
                result=message,
            )
        )


async def _ask(websocket: ClientConnection, **members: Any) -> dict[str, Any]:
    """Send ``start_session`` and return the answer."""
    await websocket.send(json.dumps({"type": "start_session", **members}))
    answer: dict[str, Any] = json.loads(await websocket.recv())
    return answer


def _refusal(answer: dict[str, Any]) -> ConnectionError:
    return ConnectionError(answer.get("message", f"it answered {answer['type']}"))


def _samples(duration_ms: float) -> int:
    return round(duration_ms * SAMPLE_RATE / 1000)
