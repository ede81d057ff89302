"""A stream of audio that becomes speech events, over ``/ws/stt``."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, APIStatusError, APITimeoutError, stt
from livekit.agents.language import LanguageCode
from livekit.agents.stt import SpeechData, SpeechEvent, SpeechEventType
from livekit.agents.types import NOT_GIVEN, TimedString
from livekit.agents.utils.audio import AudioByteStream

from .errors import PASSING, lost, session_error
from .log import logger
from .sent import SAMPLE_RATE, Flush, Unacknowledged

FRAME_SAMPLES = SAMPLE_RATE // 50
"""20 ms: what one message carries."""
REPLAY_SAMPLES = SAMPLE_RATE // 2
USAGE_EVERY_S = 5.0
PING_EVERY_S = 20.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a stream asks of the server."""

    url: str
    """Of ``/ws/stt``."""
    language: str | None = None
    """None: the server's default, or detected."""
    model: str | None = None
    """None: the server chooses."""
    interim_results: bool = True
    vad_threshold: float | None = None

    def config(self) -> dict[str, Any]:
        """Return the config of ``start_session``."""
        chosen = {
            "lang_code": self.language,
            "model": self.model,
            "sample_rate": SAMPLE_RATE,
            "vad_enabled": True,  # turns need it
            "vad_threshold": self.vad_threshold,
            "partial_results": self.interim_results,
            "word_timestamps": True,
        }
        return {name: value for name, value in chosen.items() if value is not None}


class SpeechStream(stt.RecognizeStream):
    """One stream of audio: a session on the server, which goes on after a lost connection.

    The base class calls ``_run`` again when it raises a retryable error. The session goes on with
    what it has not acknowledged, or else a new one gets that, so that no word is lost within
    ``sent.LIMIT_S``.

    A turn is START_OF_SPEECH, interim transcripts, final ones, END_OF_SPEECH. In a pause the text
    of the likely final comes as PREFLIGHT_TRANSCRIPT. The end comes after
    the last final, since an agent commits the turn at the end; it does not come if the speaker goes
    on before that final is there.
    """

    def __init__(
        self,
        *,
        stt: stt.STT[Any],
        options: Options,
        session: aiohttp.ClientSession,
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(stt=stt, conn_options=conn_options, sample_rate=SAMPLE_RATE)
        self._options = options
        self._session = session
        self._frames = AudioByteStream(SAMPLE_RATE, 1, FRAME_SAMPLES)
        self._unacknowledged = Unacknowledged()
        self._offset_s: float | None = None
        """The start time offset before the base class moves it on at a retry."""
        self._session_start = 0
        """Position of the session's first sample in the stream."""
        self._request_id = ""
        self._resume_token: str | None = None
        self._last_segment = ""
        """The segment of the session's last final."""
        self._ended_input = False
        self._speaking = False
        self._speech_start_s = 0.0
        self._speech_end_s: float | None = None
        """When the speech ended of which a final is still to come."""
        self._unreported_s = 0.0

    async def _run(self) -> None:
        if self._offset_s is None:
            self._offset_s = self.start_time_offset
        self._speech_end_s = None  # a new session finds the end of unacknowledged speech anew
        async with self._connection() as socket:
            try:
                await self._start_session(socket)
                await self._hold_session(socket)
            except (aiohttp.ClientError, ConnectionError) as error:
                raise lost(str(error)) from error
        self._report_usage()
        self._end_speech()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._conn_options.timeout):
                socket = await self._session.ws_connect(self._options.url, heartbeat=PING_EVERY_S)
        except TimeoutError as error:
            raise APITimeoutError(f"{self._options.url} does not answer") from error
        except aiohttp.WSServerHandshakeError as error:
            raise APIStatusError(
                f"{self._options.url} refused: {error.message}", status_code=error.status
            ) from error
        except aiohttp.ClientError as error:
            raise lost(str(error)) from error
        self._report_connection_acquired(time.perf_counter() - started, connection_reused=False)
        try:
            yield socket
        finally:
            await socket.close()

    async def _start_session(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if self._resume_token is not None:
            message = await self._ask(
                socket, resume_token=self._resume_token, last_segment=self._last_segment
            )
            if message["type"] == "session_started":
                await self._go_on(socket, round(message["acked_ms"] * SAMPLE_RATE / 1000))
                return
            if message.get("code") != "SESSION_NOT_FOUND":
                raise session_error(message)
        self._request_id = f"livekit-{uuid.uuid4()}"
        self._session_start = self._unacknowledged.start
        self._resume_token, self._last_segment = None, ""
        config = self._options.config()
        message = await self._ask(socket, session_id=self._request_id, config=config)
        if message["type"] == "error":
            raise session_error(message)
        if message["type"] != "session_started":
            raise APIStatusError(f"not a Longhand server: it answered {message['type']!r}")
        self._resume_token = message.get("resume_token")

    async def _ask(self, socket: aiohttp.ClientWebSocketResponse, **members: Any) -> dict[str, Any]:
        """Send ``start_session`` and return the answer."""
        await socket.send_json({"type": "start_session", **members})
        try:
            async with asyncio.timeout(self._conn_options.timeout):
                return await self._next(socket)
        except TimeoutError as error:
            raise APITimeoutError("the session does not start") from error

    async def _go_on(self, socket: aiohttp.ClientWebSocketResponse, acked: int) -> None:
        """Send silence for what the session lacks and is not kept any more."""
        n_lost = self._unacknowledged.start - self._session_start - acked
        for start in range(0, n_lost, REPLAY_SAMPLES):
            await socket.send_bytes(bytes(2 * min(REPLAY_SAMPLES, n_lost - start)))
        self._unacknowledged.acknowledge(self._session_start + acked)

    async def _hold_session(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        sending = asyncio.create_task(self._send(socket))
        receiving = asyncio.create_task(self._receive(socket))
        try:
            # Receiving outlives sending: texts come after the end of the input.
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (receiving, sending):
                if task.done():
                    task.result()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        for kept in list(self._unacknowledged.replay(REPLAY_SAMPLES)):
            if isinstance(kept, Flush):
                await socket.send_json({"type": "flush"})
            else:
                await socket.send_bytes(kept)
        # An item is kept before it is sent: this task may be canceled while it sends.
        async for item in self._input_ch:
            if isinstance(item, rtc.AudioFrame):
                is_flush, frames = False, self._frames.push(_mono_pcm(item))
            else:
                is_flush, frames = True, self._frames.flush()
            pieces = [bytes(frame.data) for frame in frames]
            for pcm in pieces:
                self._unacknowledged.append(pcm)
            if is_flush:
                self._unacknowledged.append_flush()
            self._count_usage(pieces)
            for pcm in pieces:
                await socket.send_bytes(pcm)
            if is_flush:
                await socket.send_json({"type": "flush"})
        self._ended_input = True
        await socket.send_json({"type": "end_session"})

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while (message := await self._next(socket))["type"] != "session_ended":
            self._handle(message)
        if not self._ended_input:
            raise lost(f"the server ended the session ({message.get('reason')})")

    async def _next(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
        frame = await socket.receive()
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise lost(f"closed with {socket.close_code}") from socket.exception()
        message: dict[str, Any] = json.loads(frame.data)
        return message

    def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "vad_event" if message["state"] == "speech_start":
                self._start_speech(message["t_ms"] / 1000)
            case "vad_event":
                self._speech_end_s = message["t_ms"] / 1000
            case "partial_transcript":
                self._interim(message)
            case "final_transcript":
                self._final(message)
            case "error":
                self._fail(message)
            case other:
                logger.debug("a message of type %s is of no use here", other)

    def _start_speech(self, session_s: float) -> None:
        self._speech_end_s = None
        if self._speaking:
            return  # the speaker has gone on before the final was there
        self._speaking = True
        self._speech_start_s = session_s
        self._emit(SpeechEventType.START_OF_SPEECH, speech_start_time=self._wall_clock(session_s))

    def _end_speech(self) -> None:
        if not self._speaking:
            return
        self._speaking = False
        end_s, self._speech_end_s = self._speech_end_s, None
        wall_clock = None if end_s is None else self._wall_clock(end_s)
        self._emit(SpeechEventType.END_OF_SPEECH, speech_end_time=wall_clock)

    def _interim(self, message: dict[str, Any]) -> None:
        if not message["text"]:
            return
        if not self._speaking:
            self._start_speech(self._position_s)
        is_preflight = message.get("preflight", False)
        self._emit(
            SpeechEventType.PREFLIGHT_TRANSCRIPT
            if is_preflight
            else SpeechEventType.INTERIM_TRANSCRIPT,
            self._speech(message),
        )

    def _final(self, message: dict[str, Any]) -> None:
        speech = self._speech(message)
        if speech.text and not self._speaking:
            self._start_speech(speech.start_time - self._base_s)
        self._emit(SpeechEventType.FINAL_TRANSCRIPT, speech)
        self._last_segment = message["segment_id"]
        self._acknowledge((message["start_ms"] + message["audio_duration_ms"]) / 1000)
        if message["reason"] == "flush":
            self._unacknowledged.acknowledge_flush()
        if self._speech_end_s is not None:
            self._end_speech()

    def _fail(self, message: dict[str, Any]) -> None:
        error = session_error(message)
        if message["code"] in PASSING:
            logger.warning("Longhand is late: %s", error.message)
        elif message["code"] == "INFERENCE_ERROR":
            # The segment's final follows, with what its interim transcripts said.
            self._emit_error(error, recoverable=True)
        else:
            raise error

    def _speech(self, message: dict[str, Any]) -> SpeechData:
        words = message.get("words") or []
        return SpeechData(
            language=LanguageCode(message.get("language") or self._options.language or ""),
            text=message["text"],
            start_time=self._base_s + (words[0]["start"] if words else self._speech_start_s),
            end_time=self._base_s + words[-1]["end"] if words else 0.0,
            confidence=message.get("confidence") or 0.0,
            words=[self._word(word) for word in words] or None,
        )

    def _word(self, word: dict[str, Any]) -> TimedString:
        probability = word.get("probability")
        return TimedString(
            word["word"],
            start_time=self._base_s + word["start"],
            end_time=self._base_s + word["end"],
            confidence=NOT_GIVEN if probability is None else probability,
            start_time_offset=self._base_s,
        )

    def _emit(
        self,
        kind: SpeechEventType,
        speech: SpeechData | None = None,
        *,
        speech_start_time: float | None = None,
        speech_end_time: float | None = None,
    ) -> None:
        self._event_ch.send_nowait(
            SpeechEvent(
                type=kind,
                request_id=self._request_id,
                alternatives=[] if speech is None else [speech],
                speech_start_time=speech_start_time,
                speech_end_time=speech_end_time,
            )
        )

    @property
    def _base_s(self) -> float:
        """What turns the session's seconds into the stream's, with the stream's offset."""
        return (self._offset_s or 0.0) + self._session_start / SAMPLE_RATE

    @property
    def _position_s(self) -> float:
        """The end of what was sent, in the session's seconds."""
        return (self._unacknowledged.end - self._session_start) / SAMPLE_RATE

    def _wall_clock(self, session_s: float) -> float:
        """Return when the sample at ``session_s`` came in, taking audio to come at its own pace."""
        return time.time() - max(0.0, self._position_s - session_s)

    def _acknowledge(self, session_s: float) -> None:
        self._unacknowledged.acknowledge(self._session_start + round(session_s * SAMPLE_RATE))

    def _count_usage(self, pieces: list[bytes]) -> None:
        self._unreported_s += sum(map(len, pieces)) / 2 / SAMPLE_RATE
        if self._unreported_s >= USAGE_EVERY_S:
            self._report_usage()

    def _report_usage(self) -> None:
        if self._unreported_s:
            usage = stt.RecognitionUsage(audio_duration=self._unreported_s)
            self._unreported_s = 0.0
            self._event_ch.send_nowait(
                SpeechEvent(
                    type=SpeechEventType.RECOGNITION_USAGE,
                    request_id=self._request_id,
                    recognition_usage=usage,
                )
            )


def _mono_pcm(frame: rtc.AudioFrame) -> bytes:
    """Return a frame's samples, the mean of its channels: s16le."""
    if frame.num_channels == 1:
        return bytes(frame.data)
    samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
    mixed: bytes = samples.mean(axis=1).astype(np.int16).tobytes()
    return mixed
