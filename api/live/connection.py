"""One WebSocket connection: reads what the client sends, has it heard, and tells what was said.

Reading never waits for a model. What a client sends too fast is left in its own buffers.
"""

import asyncio
import contextlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.live.decoders import Decoder
from api.live.errors import INTERNAL_ERROR, POLICY_VIOLATION, SERVICE_RESTART, LiveError
from api.live.outbox import Outbox, SlowReader
from api.live.recording import Recording
from api.live.recovery import Recovery
from api.live.requests import Requests
from api.live.sessions import LiveSessions, Wish
from api.live.timing import Timing
from api.live.websocket import abort
from api.problems import error_response
from shared.infra.errors import ModelError, TooManyAtOnce
from shared.models.options import JobOptions
from shared.speech.chunks import SAMPLE_RATE
from shared.speech.live.events import Ask, Drop, Effect, Ended, EndReason, Event, Final, Partial
from shared.speech.live.options import samples_of
from shared.speech.live.requests import LiveAnswer, LiveKind, LiveRequest
from shared.speech.live.session import LiveSession
from shared.speech.resampling import PcmResampler

log = logging.getLogger("api.live")

BLOCK_BYTES = 8 * 1024
"""Audio that is searched for speech before other sessions have their turn: 256 ms, which take about
half a millisecond."""
START_S = 30.0
"""How long a connection may be without a session."""
STALL_S = 3.0
"""A segment ends when its client has sent no audio for this long: some send no silence."""
LATE_S = 5.0
"""The client is told when a final takes longer than this."""
_LOOK_S = 0.5


class Connection(ABC):
    """A client with at most one session. A subclass speaks its protocol."""

    def __init__(self, websocket: WebSocket, live: LiveSessions, tenant: str) -> None:
        self._websocket, self._live, self._tenant = websocket, live, tenant
        self._outbox = Outbox(websocket)
        self._requests = Requests(live, self._hear)
        self._recovery = Recovery(
            live.checkpoints, self._outbox, tenant, self._displace, self._release
        )
        self.recording: Recording | None = None
        """Of a session that is to be saved."""
        self._session: LiveSession | None = None
        self._began_at = 0
        """The session's position at which this connection began."""
        self._session_id = ""
        self._resampler: PcmResampler | None = None
        self._decoder: Decoder | None = None
        self._decoding: asyncio.Task[None] | None = None
        self._end_code, self._is_draining = 1000, False
        self._caught_up, self._is_behind = asyncio.Event(), False
        self._received_at = self._audio_at = time.monotonic()
        self._told_late = self._told_full = False

    @abstractmethod
    async def on_text(self, text: str) -> None:
        """Do what a text message asks.

        Raises:
            LiveError: it is no message of the protocol, or cannot be followed.
        """

    @abstractmethod
    def on_audio(self) -> None:
        """See that there is a session for the audio that has come.

        Raises:
            LiveError: there is none.
        """

    def on_heard(self) -> None:  # noqa: B027 - most protocols tell nothing then
        """Tell what is told whenever audio has come."""

    @abstractmethod
    def tell(self, event: Event, timing: Timing | None) -> None:
        """Send what an event means; ``timing`` is that of its answer."""

    @abstractmethod
    def tell_error(self, error: LiveError) -> None:
        """Send an error."""

    async def run(self) -> None:
        """Serve the client until the connection is closed."""
        try:
            is_taken = self._live.take(self, self._tenant)
        except TooManyAtOnce as error:
            refusal = error_response(self._websocket, error)
            await self._websocket.send_denial_response(refusal)
            return
        if not is_taken:
            busy = Response(status_code=503, headers={"Retry-After": "5"})
            await self._websocket.send_denial_response(busy)
            return
        try:
            await self._live.prepare()
            await self._websocket.accept(self._websocket.state.subprotocol)
            await self._serve()
        except WebSocketDisconnect:
            return  # during the handshake
        finally:
            await self._leave()

    # What protocols do with their session.

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

    def begin(
        self, session_id: str, wish: Wish, *, start: int = 0, n_finals: int = 0
    ) -> LiveSession:
        """Begin the session, or go on with it at sample ``start`` after so many finals.

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
        self._audio_at = time.monotonic()
        if wish.encoding != "pcm_s16le":
            self._decoder = Decoder(self._live.decoders)
            self._decoding = asyncio.create_task(self._decode(self._decoder, self._session))
        elif wish.sample_rate != SAMPLE_RATE:
            self._resampler = PcmResampler(wish.sample_rate)
        return self._session

    def finish(self) -> None:
        """End the session after its finals, as the client sends no more audio."""
        if self._decoder is not None:
            self._decoder.finish()  # the session ends after what is left
        elif self._session is not None:
            self.do(self._session.end())

    def speak(self, language: str | None) -> None:
        """Take what follows for speech in this language; None: it is to be detected.

        Raises:
            LiveError: the session's model does not know it.
        """
        if self._session is not None:
            model = self._session.options.model
            self._live.choose(JobOptions(model=model, language=language))
            self._session.options = replace(self._session.options, language=language)

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
        self._recovery.send_final(_json(message), final.segment, final.end)

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the session wants."""
        for effect in effects:
            if isinstance(effect, Ask):
                self._ask(effect)
            elif isinstance(effect, Drop):
                self._requests.drop(effect.segment)
            else:
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

    # How it ends.

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
        """End the recording; what a connection that goes on sends again belongs to its own."""
        if self.recording is None:
            return
        if reason is EndReason.CANCELLED:
            self.recording.discard()
        else:
            is_over = reason is not EndReason.ERROR
            self.recording.finish(whole=is_over or not self._recovery.is_possible)

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
        self._outbox.close(self._end_code)

    def _fail(self) -> None:
        """End with an error of ours; called where it is handled."""
        log.exception("a live session failed")
        self._end_code = INTERNAL_ERROR
        with contextlib.suppress(Exception):
            self.tell_error(LiveError("INTERNAL_ERROR", "An unexpected error ended the session."))
            if self._session is not None:
                self.do(self._session.cancel(EndReason.ERROR))
        self._outbox.close(INTERNAL_ERROR)

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
            tasks = [reader, writer, watch, *filter(None, [self._decoding])]
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
        if self._decoder is not None:
            await self._decoder.close()
        await self._requests.close()

    # What comes in.

    async def _read(self) -> bool:
        """Read until the client is gone, or, returning False, until something fails."""
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    return True
                self._received_at = time.monotonic()
                try:
                    if (audio := message.get("bytes")) is not None:
                        await self._take_audio(audio)
                    else:
                        if self._decoder is not None:
                            await self._decoder.settle()  # it came after the audio
                        await self.on_text(message.get("text") or "")
                except LiveError as error:
                    self.tell_error(error)
                    if error.close is not None:
                        self._outbox.close(error.close)
                await self._wait_for_room()
        except Exception:  # noqa: BLE001 - a bug ends this session and no other
            self._fail()
            return False

    async def _take_audio(self, audio: bytes) -> None:
        self.on_audio()
        assert self._session is not None
        if self._decoder is None:
            await self._push(audio, self._session)
        else:
            self._audio_at = time.monotonic()
            await self._decoder.feed(audio)

    async def _push(self, pcm: bytes, session: LiveSession) -> None:
        for start in range(0, len(pcm), BLOCK_BYTES):
            if start:
                await asyncio.sleep(0)
            self._audio_at = time.monotonic()
            block = pcm[start : start + BLOCK_BYTES]
            if self._resampler is not None:
                block = self._resampler.push(block)
            if self.recording is not None and not session.is_over:
                self.recording.hear(block)
            self.do(session.push(block))
        self._end_if_drained()
        self.on_heard()

    async def _decode(self, decoder: Decoder, session: LiveSession) -> None:
        """Hear what the decoder makes of the audio, and end the session when there is no more."""
        try:
            async for pcm in decoder.pieces():
                await self._push(pcm, session)
                await self._wait_for_room()
                await asyncio.sleep(0)  # what is there already is read without waiting
            self.do(session.end())
        except LiveError as error:
            if error.close is not None:
                self._end_code = error.close
            self.tell_error(error)
            self.do(session.end(EndReason.ERROR))
        except Exception:  # noqa: BLE001 - as in _read
            self._fail()

    async def _wait_for_room(self) -> None:
        """Leave what the client sends in its own buffers while the workers are behind."""
        most = samples_of(self._live.settings.live_max_buffer_ms)
        while self._session is not None and self._session.backlog > most:
            self._is_behind = True
            self._caught_up.clear()
            await self._caught_up.wait()
        if self._is_behind:
            self._is_behind, self._audio_at = False, time.monotonic()

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
                if now - self._received_at > self._live.settings.live_idle_s:
                    self.do(session.end(EndReason.TIMEOUT))
                elif session.is_speaking and not self._is_behind and now - self._audio_at > STALL_S:
                    self.do(session.stall())
                    self._end_if_drained()
                self._tell_late(now)
                self._recovery.beat(now, session.settled)
            except Exception:  # noqa: BLE001 - as in _read
                self._fail()
                return

    # What is asked and answered.

    def _ask(self, ask: Ask) -> None:
        request = ask.request
        if request.kind is LiveKind.PARTIAL:
            load = self._live.hearer.load(request.model)
            if self._live.is_full(load):
                self._leave_out(request, load.depth)
                return
            self._told_full = False
        self._requests.ask(request, self._received_at)

    def _leave_out(self, partial: LiveRequest, depth: int) -> None:
        self._live.n_refused += 1
        if not self._told_full:
            self.tell_error(LiveError("QUEUE_FULL", f"{depth} requests are waiting: no partials."))
        self._told_full = True
        assert self._session is not None
        self.do(self._session.answer(LiveAnswer(partial.id, None, error="queue_full")))

    def _hear(self, answer: LiveAnswer) -> None:
        """Take an answer."""
        try:
            if self._session is not None:
                self.do(self._session.answer(answer))
                self._end_if_drained()
        except Exception:  # noqa: BLE001 - as in _read
            self._fail()
        self._caught_up.set()

    def _tell_late(self, now: float) -> None:
        late = self._requests.is_final_late(now - LATE_S)
        if late and not self._told_late:
            self.tell_error(LiveError("QUEUE_CONGESTION", "The answers of the workers are late."))
        self._told_late = late


def _json(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
