"""One WebSocket connection: it reads audio and messages, drives the session, and sends the texts.

Reading never waits for a model. A client that sends too fast fills its own buffers.
"""

import asyncio
import contextlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.live.errors import INTERNAL_ERROR, POLICY_VIOLATION, SERVICE_RESTART, LiveError
from api.live.incoming import IncomingAudio
from api.live.outbox import Outbox, SlowReader
from api.live.recording import Recording
from api.live.recovery import Recovery
from api.live.requests import Requests
from api.live.sessions import LiveSessions, Wish
from api.live.timing import Timing
from api.live.voices import Voices, wording_of
from api.live.websocket import abort
from api.problems import error_response
from shared.infra.errors import InvalidParameter, LiveBusy, ModelError, TooManyAtOnce
from shared.models.options import JobOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.events import Ask, Drop, Effect, Ended, EndReason, Event, Final, Partial
from shared.speech.live.requests import LiveAnswer
from shared.speech.live.session import LiveSession
from shared.speech.live.wording import Wording
from shared.speech.transcript.edits import Edits

log = logging.getLogger("api.live")

START_S = 30.0
"""How long a connection may be without a session."""
_LOOK_S = 0.5


class Connection(ABC):
    """A client with at most one session. A subclass speaks its protocol."""

    answer_error: Callable[[HTTPConnection, Exception], Response] = staticmethod(error_response)
    """Makes the answer to a handshake that is refused."""

    def __init__(self, websocket: WebSocket, live: LiveSessions, tenant: str) -> None:
        self._websocket, self._live, self._tenant = websocket, live, tenant
        self._outbox = Outbox(websocket)
        self._requests = Requests(live, self._hear, self.tell_error)
        self._recovery = Recovery(
            live.checkpoints, self._outbox, tenant, self._displace, self._release
        )
        self.recording: Recording | None = None
        """Of a session that is to be saved."""
        self._session: LiveSession | None = None
        self._began_at = 0
        """The session's position at which this connection began."""
        self._session_id = ""
        self._audio: IncomingAudio | None = None
        """The session's."""
        self._wording = Wording()
        self._end_code, self._end_reason, self._is_draining = 1000, "", False
        self._received_at = time.monotonic()
        self.idle_s = live.settings.live_idle_s
        """How long the client may send nothing."""

    def on_handshake(self) -> None:  # noqa: B027 - most protocols begin it later
        """Begin the session, if the handshake says all that it is to be.

        Raises:
            LiveError: it cannot begin; the handshake is refused.
        """

    def on_open(self) -> None:  # noqa: B027 - most protocols wait for a message
        """Do what the protocol does as soon as the connection is open.

        Raises:
            LiveError: it cannot be done.
        """

    @abstractmethod
    async def on_text(self, text: str) -> None:
        """Do what a text message asks.

        Raises:
            LiveError: it is no message of the protocol, or cannot be followed.
        """

    @abstractmethod
    def on_audio(self) -> None:
        """Begin a session for the audio that has come, if the protocol does so.

        Raises:
            LiveError: there is none.
        """

    def on_heard(self) -> None:  # noqa: B027 - most protocols tell nothing then
        """Send what the protocol sends whenever audio has come."""

    @abstractmethod
    def tell(self, event: Event, timing: Timing | None) -> None:
        """Send what an event means; ``timing`` is that of its answer."""

    @abstractmethod
    def tell_error(self, error: LiveError) -> None:
        """Send an error."""

    def close_for(self, error: LiveError) -> tuple[int, str]:
        """Return the code and the reason with which an error closes the connection."""
        return error.close or 1000, ""

    async def run(self) -> None:
        """Serve the client until the connection is closed."""
        try:
            if not self._live.take(self, self._tenant):
                raise LiveBusy(
                    "there are too many live connections, or the server is about to stop"
                )
        except (TooManyAtOnce, LiveBusy) as error:
            await self._refuse(error)
            return
        try:
            await self._live.prepare()
            try:
                self.on_handshake()
            except LiveError as error:
                await self._refuse(_refusal(error))
                return
            await self._websocket.accept(self._websocket.state.subprotocol)
            await self._serve()
        except WebSocketDisconnect:
            return  # during the handshake
        finally:
            await self._leave()

    # What a protocol calls.

    @property
    def session(self) -> LiveSession | None:
        """The session, once it has begun."""
        return self._session

    @property
    def session_id(self) -> str:
        """Its id; empty before it has begun."""
        return self._session_id

    @property
    def default_language(self) -> str | None:
        """Language of sessions that name none; None: it is detected."""
        return self._live.settings.live_language or None

    @property
    def recovery(self) -> Recovery:
        """What another connection needs to go on with the session."""
        return self._recovery

    @property
    def lacks_speakers(self) -> bool:
        """Whether the session's speakers are to be told, and no worker hears voices now."""
        return self._wording.speakers is not None and self._live.diarizer() is None

    def begin(
        self,
        session_id: str,
        wish: Wish,
        *,
        start: int = 0,
        n_finals: int = 0,
        speakers: str = "",
    ) -> LiveSession:
        """Begin the session, or go on with it at sample ``start`` after so many finals.

        ``speakers`` are those whom an earlier connection has told of (``OnlineSpeakers``).

        Raises:
            LiveError: it cannot begin.
        """
        options = self._live.begin(self._tenant, session_id, wish)
        try:
            self._session = LiveSession(options, start=start, n_finals=n_finals)
        except ModelError as error:
            self._live.end(self._tenant, session_id, EndReason.ERROR)
            raise LiveError("INTERNAL_ERROR", str(error), INTERNAL_ERROR) from error
        self._session_id = session_id
        self._began_at = start
        self._wording = wording_of(wish.job, speakers)
        if self._wording.speakers is not None:
            self._requests.voices = Voices(self._live)
        self._audio = IncomingAudio(
            self._session,
            wish,
            self._live,
            on_block=self._hear_block,
            on_message=self._hear_message,
            on_end=self._end_of_audio,
            on_bug=self._fail,
        )
        return self._session

    def finish(self) -> None:
        """End the session after its finals, as the client sends no more audio."""
        if self._audio is not None:
            self._audio.finish()

    def change(self, **options: Any) -> None:
        """Have what follows done with other options (``LiveOptions``), if there is a session.

        Raises:
            LiveError: the session's model does not know the language, or takes no prompt.
        """
        if self._session is not None:
            wanted = replace(self._session.options, **options)
            self._live.choose(
                JobOptions(
                    model=wanted.model,
                    language=wanted.language,
                    prompt=wanted.prompt,
                    hotwords=wanted.hotwords,
                )
            )
            self._session.change(wanted)

    def edit(self, edits: Edits | None) -> None:
        """Have what follows told with other edits."""
        self._wording.edit(edits)

    def end_with(self, code: int, reason: str = "") -> None:
        """Close the connection with this code once the session has ended."""
        self._end_code, self._end_reason = code, reason

    def send(self, message: Mapping[str, Any], key: str | None = None) -> None:
        """Send JSON, in place of the last message if that still waits and has the same key."""
        self._outbox.put(_json(message), key)

    def repeat(self, text: str) -> None:
        """Send JSON that an earlier connection of the session has made."""
        self._outbox.put(text)

    def send_when(self, ready: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """Send what this returns as JSON. It must end within seconds, and raise nothing."""

        async def text() -> str:
            return _json(await ready())

        self._outbox.put_when(text)

    def send_final(self, message: Mapping[str, Any], final: Final) -> None:
        """Send a final as JSON, once it is stored for a connection that goes on."""
        speakers = self._wording.speakers
        told = "" if speakers is None else speakers.to_json()
        self._recovery.send_final(_json(message), final.segment, final.end, told)

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the session wants."""
        for effect in effects:
            if isinstance(effect, Ask):
                self._requests.ask(effect.request, self._received_at)
            elif isinstance(effect, Drop):
                self._requests.drop(effect.segment)
            else:
                effect = self._wording.of(effect)  # noqa: PLW2901
                if self.recording is not None and isinstance(effect, Final):
                    self.recording.add_final(effect.end, effect.text)
                elif isinstance(effect, Ended):
                    self._finish_recording(effect.reason)
                answer = effect.answer if isinstance(effect, Partial | Final) else None
                self.tell(effect, None if answer is None else self._requests.timing_of(answer))
                if isinstance(effect, Ended):
                    if effect.reason is EndReason.CANCELLED:
                        self._recovery.forget()
                    self._end(effect)

    # Ending.

    def drain(self) -> None:
        """End the session at the next pause, and close the connection."""
        self._is_draining, self._end_code = True, SERVICE_RESTART
        self._end_if_drained()

    def end_now(self) -> None:
        """End the session and close the connection after its finals."""
        if self._session is None:
            self._outbox.close(SERVICE_RESTART)
        else:
            self.do(self._session.end(EndReason.ERROR))

    def restart(self) -> None:
        """Close the connection at once."""
        if self._session is not None:
            self.do(self._session.cancel(EndReason.ERROR))
        self._outbox.close(SERVICE_RESTART)

    def _displace(self) -> None:
        """End: another connection goes on with the session."""
        self.tell_error(LiveError("SESSION_DISPLACED", "The session goes on elsewhere."))
        self._end_code = POLICY_VIOLATION
        if self._session is not None:
            self.do(self._session.cancel(EndReason.ERROR))

    def _release(self, position: int) -> None:
        if self.recording is not None:
            self.recording.release(position)

    def _finish_recording(self, reason: EndReason) -> None:
        if self.recording is not None:
            self.recording.end(reason, goes_on=self._recovery.is_possible)

    def _end_if_drained(self) -> None:
        if self._is_draining and not (self._session and self._session.is_speaking):
            self.end_now()

    def _end(self, ended: Ended) -> None:
        self._live.end(self._tenant, self._session_id, ended.reason)
        audio_s = (ended.n_samples - self._began_at) / SAMPLE_RATE
        self._live.metrics.audio_s.inc(audio_s)
        self._live.usage.add(self._tenant, audio_s)
        log.info(
            "%s: %s after %.1f s of audio, %d finals",
            self._websocket.scope["path"],
            ended.reason,
            audio_s,
            ended.n_segments,
        )
        self._outbox.close(self._end_code, self._end_reason)

    def _fail(self) -> None:
        """End with an error of ours; called where it is handled."""
        log.exception("a live session failed")
        text = "An unexpected error ended the session."
        error = LiveError("INTERNAL_ERROR", text, INTERNAL_ERROR)
        self.end_with(*self.close_for(error))
        with contextlib.suppress(Exception):
            self.tell_error(error)
            if self._session is not None:
                self.do(self._session.cancel(EndReason.ERROR))
        self._outbox.close(*self.close_for(error))

    async def _refuse(self, error: Exception) -> None:
        refusal = self.answer_error(self._websocket, error)
        await self._websocket.send_denial_response(refusal)

    async def _serve(self) -> None:
        reader, writer, watch = (
            asyncio.create_task(work()) for work in (self._read, self._outbox.run, self._watch)
        )
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if not (reader.done() and reader.result()):
                await writer
        except SlowReader:
            log.warning("%s: the client does not read", self._websocket.scope["path"])
            abort(self._websocket)
        finally:
            tasks = [reader, writer, watch]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self) -> None:
        if self._session is not None and not self._session.is_over:
            *_, ended = self._session.cancel()
            assert isinstance(ended, Ended)
            self._finish_recording(EndReason.ERROR)
            self._end(ended)
        self._recovery.release()
        self._live.leave(self)
        if self._audio is not None:
            await self._audio.close()
        await self._requests.close()

    # Reading.

    async def _read(self) -> bool:
        """Read until the client is gone, or, returning False, until something fails."""
        try:
            with self._telling():
                self.on_open()
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return True
                self._received_at = time.monotonic()
                with self._telling():
                    if (audio := message.get("bytes")) is not None:
                        await self.take_audio(audio)
                    else:
                        if self._audio is not None:
                            await self._audio.settle()  # the message came after it
                        await self.on_text(message.get("text") or "")
                if self._audio is not None:
                    await self._audio.wait_for_room()
        except Exception:  # noqa: BLE001 - a bug ends this session and no other
            self._fail()
            return False

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell the client of a ``LiveError``, and close the connection if the error does so."""
        try:
            yield
        except LiveError as error:
            self.tell_error(error)
            if error.close is not None:
                self._outbox.close(*self.close_for(error))

    async def take_audio(self, audio: bytes) -> None:
        """Take a message of audio; the session has begun."""
        self.on_audio()
        assert self._audio is not None
        await self._audio.take(audio)

    def _hear_block(self, pcm: bytes) -> None:
        assert self._session is not None
        if self.recording is not None and not self._session.is_over:
            self.recording.hear(pcm)
        self.do(self._session.push(pcm))

    def _hear_message(self) -> None:
        self._end_if_drained()
        self.on_heard()

    def _end_of_audio(self, error: LiveError | None) -> None:
        """End the session: no more audio comes, because of an error or as the client wished."""
        assert self._session is not None
        if error is None:
            self.do(self._session.end())
            return
        if error.close is not None:
            self.end_with(*self.close_for(error))
        self.tell_error(error)
        self.do(self._session.end(EndReason.ERROR))

    async def _watch(self) -> None:
        """Look after a client that is silent, and after answers that are late."""
        began_at = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            now, session = time.monotonic(), self._session
            try:
                if session is None:
                    if now - began_at > START_S:
                        self._outbox.close(POLICY_VIOLATION, "no session was started")
                    continue
                if now - self._received_at > self.idle_s:
                    self.do(session.end(EndReason.TIMEOUT))
                elif session.is_speaking and self._audio and self._audio.has_stalled(now):
                    self.do(session.stall())
                    self._end_if_drained()
                self._requests.tell_if_late(now)
                self._recovery.beat(now, session.settled)
            except Exception:  # noqa: BLE001 - as in _read
                self._fail()
                return

    # Answers.

    def _hear(self, answer: LiveAnswer) -> None:
        """Take an answer."""
        try:
            if self._session is not None:
                self.do(self._session.answer(answer))
                self._end_if_drained()
        except Exception:  # noqa: BLE001 - as in _read
            self._fail()
        if self._audio is not None:
            self._audio.note_answer()


def _refusal(error: LiveError) -> Exception:
    """Return what a handshake is answered with, as the session that it asks for cannot begin."""
    if error.code == "INVALID_MESSAGE":
        return InvalidParameter(str(error))
    cause = error.__cause__
    return cause if isinstance(cause, TooManyAtOnce) else LiveBusy(str(error))


def _json(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
