"""The flow of one connection's session: audio and answers in, requests and events out."""

import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from api.live.errors import INTERNAL_ERROR, POLICY_VIOLATION, SERVICE_RESTART, LiveError
from api.live.face import Face
from api.live.incoming import IncomingAudio
from api.live.outbox import Outbox
from api.live.recording import Recording
from api.live.recovery import Recovery
from api.live.requests import Requests
from api.live.sessions import LiveSessions, Wish
from api.live.voices import Voices, wording_of
from shared.infra.errors import ModelError
from shared.models.options import JobOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.live.events import Ask, Drop, Effect, Ended, EndReason, Final, Partial
from shared.speech.live.requests import LiveAnswer
from shared.speech.live.session import LiveSession
from shared.speech.live.wording import Wording

log = logging.getLogger("api.live")


class Flow:
    """Carries out what the session of a connection wants, and ends it."""

    def __init__(
        self, face: Face, outbox: Outbox, live: LiveSessions, tenant: str, path: str
    ) -> None:
        """Begin without a session; ``path`` is named in the log."""
        self._face, self._outbox, self._live = face, outbox, live
        self._tenant, self._path = tenant, path
        self._requests = Requests(live, self._hear, face.tell_error)
        self.recovery = Recovery(live.checkpoints, outbox, tenant, self._displace, self._release)
        """What another connection needs to go on with the session."""
        self.recording: Recording | None = None
        """Of a session that is to be saved."""
        self.session: LiveSession | None = None
        """The session, once it has begun."""
        self.session_id = ""
        self.audio: IncomingAudio | None = None
        """The session's."""
        self.wording = Wording()
        """How its words are told."""
        self.received_at = time.monotonic()
        """When the client's last message came."""
        self._began_at = 0
        """The session's position at which this connection began."""
        self._end_code, self._end_reason, self._is_draining = 1000, "", False

    def begin(
        self, session_id: str, wish: Wish, start: int, n_finals: int, speakers: str
    ) -> LiveSession:
        """Begin the session, or go on with it at sample ``start`` after so many finals.

        ``speakers`` are those whom an earlier connection has told of (``OnlineSpeakers``).

        Raises:
            LiveError: it cannot begin.
        """
        options = self._live.begin(self._tenant, session_id, wish)
        try:
            self.session = LiveSession(options, start=start, n_finals=n_finals)
        except ModelError as error:
            self._live.end(self._tenant, session_id, EndReason.ERROR)
            raise LiveError("INTERNAL_ERROR", str(error), INTERNAL_ERROR) from error
        self.session_id = session_id
        self._began_at = start
        self.wording = wording_of(wish.job, speakers)
        if self.wording.speakers is not None:
            self._requests.voices = Voices(self._live)
        self.audio = IncomingAudio(
            self.session,
            wish,
            self._live,
            on_block=self._hear_block,
            on_message=self._hear_message,
            on_end=self._end_of_audio,
            on_bug=self.fail,
        )
        return self.session

    def change(self, **options: Any) -> None:
        """Have what follows done with other options (``LiveOptions``), if there is a session.

        Raises:
            LiveError: the session's model does not know the language, or takes no prompt.
        """
        if self.session is not None:
            wanted = replace(self.session.options, **options)
            self._live.choose(
                JobOptions(
                    model=wanted.model,
                    language=wanted.language,
                    prompt=wanted.prompt,
                    hotwords=wanted.hotwords,
                )
            )
            self.session.change(wanted)

    def note_message(self) -> None:
        """The client has sent something."""
        self.received_at = time.monotonic()

    def do(self, effects: Iterable[Effect]) -> None:
        """Carry out what the session wants."""
        for effect in effects:
            if isinstance(effect, Ask):
                self._requests.ask(effect.request, self.received_at)
            elif isinstance(effect, Drop):
                self._requests.drop(effect.segment)
            else:
                effect = self.wording.of(effect)  # noqa: PLW2901
                if self.recording is not None and isinstance(effect, Final):
                    self.recording.add_final(effect.end, effect.text)
                elif isinstance(effect, Ended):
                    self._finish_recording(effect.reason)
                answer = effect.answer if isinstance(effect, Partial | Final) else None
                timing = None if answer is None else self._requests.timing_of(answer)
                self._face.tell(effect, timing)
                if isinstance(effect, Ended):
                    if effect.reason is EndReason.CANCELLED:
                        self.recovery.forget()
                    self._end(effect)

    def look(self, now: float) -> None:
        """Look after audio that has stopped coming, and after answers that are late."""
        assert self.session is not None
        if self.session.is_speaking and self.audio and self.audio.has_stalled(now):
            self.do(self.session.stall())
            self._end_if_drained()
        self._requests.tell_if_behind(self.session.options.model, now)
        self.recovery.beat(now, self.session.settled)

    # Ending.

    def end_with(self, code: int, reason: str = "") -> None:
        """Close the connection with this code once the session has ended."""
        self._end_code, self._end_reason = code, reason

    def end(self, reason: EndReason) -> None:
        """End the session after its finals."""
        assert self.session is not None
        self.do(self.session.end(reason))

    def drain(self) -> None:
        """End the session at the next pause, and close the connection."""
        self._is_draining, self._end_code = True, SERVICE_RESTART
        self._end_if_drained()

    def end_now(self) -> None:
        """End the session and close the connection after its finals."""
        if self.session is None:
            self._outbox.close(SERVICE_RESTART)
        else:
            self.end(EndReason.ERROR)

    def restart(self) -> None:
        """Close the connection at once."""
        if self.session is not None:
            self.do(self.session.cancel(EndReason.ERROR))
        self._outbox.close(SERVICE_RESTART)

    def fail(self) -> None:
        """End with an error of ours; called where it is handled."""
        log.exception("a live session failed")
        text = "An unexpected error ended the session."
        error = LiveError("INTERNAL_ERROR", text, INTERNAL_ERROR)
        self.end_with(*self._face.close_for(error))
        with contextlib.suppress(Exception):
            self._face.tell_error(error)
            if self.session is not None:
                self.do(self.session.cancel(EndReason.ERROR))
        self._outbox.close(*self._face.close_for(error))

    def leave(self) -> None:
        """End what the connection, which is closed, leaves behind."""
        if self.session is not None and not self.session.is_over:
            *_, ended = self.session.cancel()
            assert isinstance(ended, Ended)
            self._pause_recording()
            self._end(ended)
        self.recovery.release()

    async def close(self) -> None:
        """Drop audio and requests that are under way."""
        if self.audio is not None:
            await self.audio.close()
        await self._requests.close()

    def _displace(self, here: bool) -> None:
        """End: another connection goes on with the session, one of this process or elsewhere."""
        self._face.tell_error(LiveError("SESSION_DISPLACED", "The session goes on elsewhere."))
        self._end_code = POLICY_VIOLATION
        if here:
            self._pause_recording()
        if self.session is not None:
            self.do(self.session.cancel(EndReason.ERROR))

    def _release(self, position: int) -> None:
        if self.recording is not None:
            self.recording.release(position)

    def _pause_recording(self) -> None:
        """Leave the recording to the connection that goes on with the session, if one does."""
        if self.recording is None:
            return
        if self.recovery.is_possible:
            self.recording.pause(self.recovery.owner, self.recovery.withdraw)
        else:
            self._finish_recording(EndReason.ERROR)

    def _finish_recording(self, reason: EndReason) -> None:
        if self.recording is not None:
            self.recording.end(reason, goes_on=self.recovery.is_possible)

    def _end_if_drained(self) -> None:
        if self._is_draining and not (self.session and self.session.is_speaking):
            self.end_now()

    def _end(self, ended: Ended) -> None:
        self._live.end(self._tenant, self.session_id, ended.reason)
        audio_s = (ended.n_samples - self._began_at) / SAMPLE_RATE
        self._live.metrics.audio_s.inc(audio_s)
        self._live.usage.add(self._tenant, audio_s)
        log.info(
            "%s: %s after %.1f s of audio, %d finals",
            self._path,
            ended.reason,
            audio_s,
            ended.n_segments,
        )
        self._outbox.close(self._end_code, self._end_reason)

    # Audio and answers.

    def _hear_block(self, pcm: bytes) -> None:
        assert self.session is not None
        if self.recording is not None and not self.session.is_over:
            self.recording.hear(pcm)
        self.do(self.session.push(pcm))

    def _hear_message(self) -> None:
        self._end_if_drained()
        self._face.on_heard()

    def _end_of_audio(self, error: LiveError | None) -> None:
        """End the session: no more audio comes, because of an error or as the client wished."""
        if error is None:
            self.end(EndReason.COMPLETED)
            return
        if error.close is not None:
            self.end_with(*self._face.close_for(error))
        self._face.tell_error(error)
        self.end(EndReason.ERROR)

    def _hear(self, answer: LiveAnswer) -> None:
        """Take an answer."""
        try:
            if self.session is not None:
                self.do(self.session.answer(answer))
                self._end_if_drained()
        except Exception:  # noqa: BLE001 - a bug ends this session and no other
            self.fail()
        if self.audio is not None:
            self.audio.note_answer()
