"""Live sessions: audio goes out while it is recorded, and text comes in. They need ``websockets``.

A session goes on after a lost connection: audio without a final is kept, 35 s of it at most, and
sent again over the new one.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from longhand_sdk.core import Core
from longhand_sdk.errors import ConnectionFailed, LiveError, LonghandError
from longhand_sdk.models import Model
from longhand_sdk.sent import SAMPLE_RATE, Flush, Unacknowledged

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

OPEN_LIMIT_S = 10.0
"""How long a server may take to a connection, and then to begin the session."""
RESUME_LIMIT_S = 45.0
"""How long a lost connection is tried again; a server keeps a session for a minute."""
RESUME_EVERY_S = 0.5
REPLAY_SAMPLES = SAMPLE_RATE // 2
LATER = frozenset({"QUEUE_FULL", "QUEUE_CONGESTION", "MAX_SESSIONS_REACHED"})
"""Codes of errors with which a session does not go on now, and may go on later."""
WARNINGS = frozenset(
    {
        "QUEUE_FULL",
        "QUEUE_CONGESTION",
        "INFERENCE_ERROR",
        "SAVE_FAILED",
        "SPEAKERS_UNAVAILABLE",
    }
)
"""Codes of errors in a session that goes on."""
FLUSH, END_SESSION = (json.dumps({"type": kind}) for kind in ("flush", "end_session"))


class LiveOptions(TypedDict, total=False):
    """The options of a session, as docs/live.md has them; all of them optional."""

    language: str
    model: str
    task: str
    prompt: str
    hotwords: str
    speakers: bool | dict[str, int]
    spelling: dict[str, str]
    numerals: bool
    mask: str
    vad_enabled: bool
    vad_threshold: float
    partial_results: bool
    word_timestamps: bool
    save: bool


class LiveWord(Model):
    """A word of a final; times are seconds of the session."""

    word: str
    start: float
    end: float
    probability: float | None = None
    speaker: int | None = None


class LivePartial(Model):
    """What has been said so far in a segment; it may still change."""

    segment_id: str = ""
    text: str
    stable_text: str = ""
    confidence: float | None = None
    preflight: bool = False


class LiveFinal(Model):
    """What was said in a segment, once and for all; empty in answer to a flush in silence."""

    segment_id: str
    text: str
    confidence: float | None = None
    language: str | None = None
    speaker: int | None = None
    words: tuple[LiveWord, ...] = ()
    start_ms: float
    audio_duration_ms: float
    reason: str


class LiveActivity(Model):
    """Somebody begins or stops to speak: ``speech_start`` or ``speech_end``."""

    state: str
    t_ms: float


class LiveWarning(Model):
    """The server is late, or cannot do all that was asked; the session goes on."""

    code: str
    message: str


class LiveLost(Model):
    """The connection was lost; the session goes on over a new one."""


class LiveEnded(Model):
    """The session is over; ``job_id`` where ``save`` was asked for."""

    reason: str
    total_audio_ms: float = 0.0
    job_id: str | None = None


LiveEvent = LivePartial | LiveFinal | LiveActivity | LiveWarning | LiveLost | LiveEnded


class LiveSession:
    """One session; ``async with`` begins it. Audio is 16-bit little-endian PCM, mono, 16 kHz.

    Send and iterate in two tasks, or have ``transcribe`` do both.
    """

    _KINDS: ClassVar[dict[str, type[LivePartial | LiveFinal | LiveActivity]]] = {
        "partial_transcript": LivePartial,
        "final_transcript": LiveFinal,
        "vad_event": LiveActivity,
    }

    def __init__(self, core: Core, options: LiveOptions) -> None:
        """Prepare a session; nothing is connected to yet."""
        parts = urlsplit(core.base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        path = f"{parts.path.rstrip('/')}/ws/stt"
        self.url = urlunsplit((scheme, parts.netloc, path, "", ""))
        self._core = core
        given = {name: value for name, value in options.items() if value is not None}
        if "language" in given:
            given["lang_code"] = given.pop("language")
        self._config = {**given, "sample_rate": SAMPLE_RATE}
        self._socket: ClientConnection | None = None
        """None while there is no connection."""
        self._receiving: ClientConnection | None = None
        self._turn = asyncio.Lock()
        """Held while something is sent: a new connection first gets what is unacknowledged."""
        self._kept = Unacknowledged()
        self._token: str | None = None
        self._last_segment = ""
        self._has_ended_input = False

    async def __aenter__(self) -> Self:
        socket = await self._connect()
        try:
            started = await self._ask(socket, session_id=f"sdk-{uuid4()}", config=self._config)
            if started["type"] == "error":  # whatever it is: the session has not begun
                raise _error(started)
        except BaseException:
            await socket.close()
            raise
        self._token = started.get("resume_token")
        self._socket = self._receiving = socket
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._receiving is not None:
            await self._receiving.close()

    async def send(self, pcm: bytes) -> None:
        """Send audio; while the connection is lost, it is kept."""
        async with self._turn:
            self._kept.append(pcm)
            await self._pass_on(pcm)

    async def flush(self) -> None:
        """Ask for the final of what was said so far."""
        async with self._turn:
            self._kept.append_flush()
            await self._pass_on(FLUSH)

    async def end(self) -> None:
        """Send no more: what was said still gets its text, then the session ends."""
        if self._has_ended_input:
            return
        await self.flush()
        async with self._turn:
            self._has_ended_input = True
            await self._pass_on(END_SESSION)

    async def transcribe(self, audio: AsyncIterable[bytes]) -> AsyncIterator[LiveEvent]:
        """Send audio as it comes, end the session after it, and yield what is heard meanwhile."""

        async def send_all() -> None:
            try:
                async for piece in audio:
                    await self.send(piece)
            finally:
                await self.end()

        sending = asyncio.create_task(send_all())
        try:
            async for event in self:
                yield event
        except BaseException:
            sending.cancel()
            with suppress(asyncio.CancelledError, LonghandError):
                await sending
            raise
        await sending

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Yield what the server tells, until the session is over.

        Raises:
            LiveError: the session cannot go on.
            ConnectionFailed: the connection is lost, and no other can be made.
        """
        from websockets.exceptions import ConnectionClosed

        while True:
            assert self._receiving is not None, "use 'async with'"
            with suppress(ConnectionClosed):
                async for data in self._receiving:
                    event = self._heard(json.loads(data))
                    if event is not None:
                        yield event
                    if isinstance(event, LiveEnded):
                        return
            if self._token is None:
                raise self._lost()
            yield LiveLost()
            await self._resume()

    def _heard(self, message: dict[str, Any]) -> LiveEvent | None:
        """Return what a message means; None: nothing that a client needs to know."""
        kind = message["type"]
        if kind == "error":
            if message["code"] not in WARNINGS:
                raise _error(message)
            return LiveWarning(code=message["code"], message=_sentence(message))
        if kind == "session_ended":
            if message["reason"] in ("completed", "cancelled"):
                return LiveEnded.model_validate(message)
            if message["reason"] == "error" and self._token is not None:
                return None  # the server stops, and the session goes on at another
            raise LiveError(f"the server ended the session: {message['reason']}", "SESSION_ENDED")
        model = self._KINDS.get(kind)
        if model is None:
            return None
        event = model.model_validate(message)
        if isinstance(event, LiveFinal):
            self._last_segment = event.segment_id
            end_ms = event.start_ms + event.audio_duration_ms
            self._kept.acknowledge(round(end_ms * SAMPLE_RATE / 1000))
            if event.reason == "flush":
                self._kept.acknowledge_flush()
        return event

    async def _resume(self) -> None:
        """Go on with the session over a new connection."""
        clock = asyncio.get_running_loop().time
        ends = clock() + RESUME_LIMIT_S
        while not await self._try_to_resume():
            if clock() > ends:
                raise self._lost()
            await asyncio.sleep(RESUME_EVERY_S)

    async def _try_to_resume(self) -> bool:
        """Connect and send what is unacknowledged; return False if it may work later."""
        from websockets.exceptions import ConnectionClosed

        try:
            socket = await self._connect()
        except LonghandError:
            return False
        try:
            started = await self._ask(
                socket, resume_token=self._token, last_segment=self._last_segment
            )
            if started["type"] == "error" and started["code"] not in LATER:
                raise _error(started)
            if started["type"] == "session_started":
                await self._send_again(socket, round(started["acked_ms"] * SAMPLE_RATE / 1000))
                self._receiving = socket
                return True
        except (ConnectionClosed, ConnectionFailed):
            pass
        except BaseException:
            await socket.close()
            raise
        await socket.close()
        return False

    async def _send_again(self, socket: "ClientConnection", acked: int) -> None:
        """Send what the session lacks; what follows goes to this connection."""
        async with self._turn:
            for piece in [*self._kept.resume(acked, REPLAY_SAMPLES)]:
                await socket.send(FLUSH if isinstance(piece, Flush) else piece)
            if self._has_ended_input:
                await socket.send(END_SESSION)
            self._socket = socket

    async def _pass_on(self, message: bytes | str) -> None:
        """Send a message if there is a connection; a new one gets what this one misses."""
        from websockets.exceptions import ConnectionClosed

        if self._socket is not None:
            try:
                await self._socket.send(message)
            except ConnectionClosed:
                self._socket = None

    async def _ask(self, socket: "ClientConnection", **members: Any) -> dict[str, Any]:
        """Send ``start_session`` and return the answer.

        Raises:
            ConnectionFailed: there is none, or not in time.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            async with asyncio.timeout(OPEN_LIMIT_S):
                await socket.send(json.dumps({"type": "start_session", **members}))
                answer: dict[str, Any] = json.loads(await socket.recv())
        except ConnectionClosed as error:
            raise self._lost() from error
        except TimeoutError as error:
            raise ConnectionFailed(f"{self.url} does not begin the session") from error
        return answer

    async def _connect(self) -> "ClientConnection":
        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import InvalidHandshake, InvalidStatus

            class Connect(connect):
                """Follows no redirect, which would take the key to another server."""

                def process_redirect(self, exc: Exception) -> Exception:
                    return exc

        except ImportError as error:
            raise LiveError("live sessions need: pip install 'longhand-sdk[live]'") from error
        try:
            return await Connect(
                self.url,
                proxy=None if self._core.is_local else True,
                compression=None,
                additional_headers=self._core.headers,
                open_timeout=OPEN_LIMIT_S,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise LiveError(
                    f"{self.url} wants an API key with the scope 'live': set LONGHAND_API_KEY"
                ) from error
            raise LiveError(f"{self.url} answered {status}, and takes no live audio") from error
        except InvalidHandshake as error:
            raise LiveError(f"{self.url} does not answer like a Longhand server") from error
        except OSError as error:  # also when it does not answer in time
            reason = os.strerror(error.errno) if error.errno else str(error) or "no answer"
            raise ConnectionFailed(f"cannot reach {self.url}: {reason}") from error

    def _lost(self) -> ConnectionFailed:
        return ConnectionFailed(f"the connection to {self.url} was lost")


def _error(message: dict[str, Any]) -> LiveError:
    return LiveError(_sentence(message), message["code"])


def _sentence(error: dict[str, Any]) -> str:
    """Return what a message ``error`` says."""
    return str(error["message"]).rstrip(".")
