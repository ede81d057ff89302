"""A peer of ``/ws/stt`` for tests of its clients: it hears words in square pulses, and can fail.

A word is a number: a pulse of WORD_MS whose samples all have that number times 1,000. So the texts
show what a client sends twice or never. This module needs nothing of Longhand, and so runs in the
environments of the plugins' tests, too.
"""

import json
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import SHUT_RDWR
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

RATE = 16_000
WORD_MS, GAP_MS, PAUSE_MS, END_MS = 100, 40, 120, 200
"""A word, the silence behind it, the silence after which the final is likely, and the silence that
ends an utterance."""


def spoken(*words: int, silence_ms: int = 500) -> bytes:
    """Return words as PCM, s16le at RATE, and the silence behind them."""
    pcm = b"".join(_level(word * 1000, WORD_MS) + _level(0, GAP_MS) for word in words)
    return pcm + _level(0, silence_ms)


def _level(value: int, length_ms: int) -> bytes:
    return struct.pack("<h", value) * (RATE * length_ms // 1000)


class Ear:
    """Hears the words of one session."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self._value, self._run = 0, 0
        self._words: list[dict[str, Any]] = []
        self.speaking = False

    def hear(self, pcm: bytes) -> Iterator[tuple[str, float]]:
        """Take in audio; yield what begins, goes on and ends in it, with its time in ms."""
        for (value,) in struct.iter_unpack("<h", pcm):
            if value != self._value:
                if self._value:
                    self._add_word()
                    yield "word", self.ms
                elif not self.speaking:
                    self.speaking = True
                    yield "speech_start", self.ms
                self._value, self._run = value, 0
            self._run += 1
            self.position += 1
            if self.speaking and not value and self._run == RATE * PAUSE_MS // 1000:
                yield "pause", self.ms
            if self.speaking and not value and self._run == RATE * END_MS // 1000:
                self.speaking = False
                yield "speech_end", self.ms - END_MS

    @property
    def ms(self) -> float:
        return self.position * 1000 / RATE

    @property
    def text(self) -> str:
        return " ".join(word["word"] for word in self._words)

    def take(self) -> list[dict[str, Any]]:
        """Return the words since the last final; a pulse that is not over yet is one."""
        if self._value and self._run:
            self._add_word()
            self._run = 0
        words, self._words = self._words, []
        return words

    def forget(self) -> None:
        """Lose the words since the last final."""
        self.take()

    def _add_word(self) -> None:
        if self._run:
            start = (self.position - self._run) / RATE
            end = self.position / RATE
            word = str(round(self._value / 1000))
            self._words.append({"word": word, "start": start, "end": end, "probability": 0.9})


def _count(last_segment: str | None) -> int:
    """Return how many finals there are up to this segment."""
    return int(last_segment[1:]) + 1 if last_segment else 0


class SttPeer:
    """What clients have asked for, and how the peer is to fail; ``stt_peer`` runs it."""

    def __init__(
        self,
        *,
        cut_at_s: Sequence[float] = (),
        refuse: Sequence[str] = (),
        fail: Sequence[str] = (),
        hold_finals: bool = False,
        preflight: bool = False,
        resumes: bool = False,
    ) -> None:
        """Be ready for clients.

        Args:
            cut_at_s: for each of the first connections, at which second of audio it is lost.
            refuse: for each of the first connections, the code of the error that it gets instead
                of a session; empty: it gets one.
            fail: for each of the first finals, which are empty, the code of the error before it.
            hold_finals: whether finals wait for the next utterance's start.
            preflight: whether the likely final is told in the pause before its end.
            resumes: whether a session goes on over a new connection, after its last final.
        """
        self.cuts, self.refusals, self.failures = list(cut_at_s), list(refuse), list(fail)
        self.hold_finals, self.preflight, self.resumes = hold_finals, preflight, resumes
        self._acked: dict[str, int] = {}
        """Each session's position after its last final."""
        self._finals: dict[str, list[dict[str, Any]]] = {}
        """Of each session: what was said, which a lost connection may have swallowed."""
        self.started: list[dict[str, Any]] = []
        """Each session's ``start_session``."""
        self.controls: list[str] = []
        """The types of all other messages."""
        self.heard_s = 0.0
        """How much audio the latest session has had so far."""
        self.url = ""

    def serve_session(self, socket: ServerConnection) -> None:
        """Talk to one client until it is done, or is to be cut off."""
        try:
            start = json.loads(socket.recv())
            self.started.append(start)
            if self.refusals and (code := self.refusals.pop(0)):
                self._error(socket, code, start)
                return
            session = start.get("resume_token") or start["session_id"]
            answer = {"type": "session_started", "session_id": session}
            if self.resumes:
                answer |= {"resume_token": session, "acked_ms": self._ms(session)}
            socket.send(json.dumps(answer))
            for final in self._finals.get(session, [])[_count(start.get("last_segment")) :]:
                socket.send(json.dumps(final))
            self._listen(socket, session)
        except ConnectionClosed:
            return

    def _listen(self, socket: ServerConnection, session: str) -> None:
        ear, held, start_ms = Ear(self._acked.get(session, 0)), [], self._ms(session)
        finals = self._finals.setdefault(session, [])
        cut_s = self.cuts.pop(0) if self.cuts else None

        def say(kind: str, **members: Any) -> None:
            socket.send(json.dumps({"type": kind, "session_id": session, **members}))

        def final(reason: str = "endpoint") -> None:
            nonlocal start_ms
            if self.failures:
                self._error(socket, self.failures.pop(0), {"session_id": session})
                ear.forget()
            words = ear.take()
            text = " ".join(word["word"] for word in words)
            told = {
                "type": "final_transcript",
                "session_id": session,
                "segment_id": f"s{len(finals)}",
                "text": text,
                "confidence": None,
                "language": None,
                "reason": reason,
                "words": words,
                "start_ms": start_ms,
                "audio_duration_ms": ear.ms - start_ms,
            }
            start_ms, self._acked[session] = ear.ms, ear.position
            finals.append(told)
            socket.send(json.dumps(told))

        for message in socket:
            if isinstance(message, bytes):
                self.heard_s = (ear.position + len(message) // 2) / RATE
                for event, at_ms in ear.hear(message):
                    if event == "word":
                        segment = f"s{len(finals)}"
                        say(
                            "partial_transcript",
                            segment_id=segment,
                            text=ear.text,
                            is_final=False,
                        )
                        continue
                    if event == "pause":
                        if self.preflight:
                            say("partial_transcript", text=ear.text, preflight=True)
                        continue
                    say("vad_event", state=event, t_ms=at_ms)
                    if event == "speech_start" and held:
                        held.pop()()
                    elif event == "speech_end" and self.hold_finals:
                        held.append(final)
                    elif event == "speech_end":
                        final()
                if cut_s is not None and ear.position >= cut_s * RATE:
                    socket.socket.shutdown(SHUT_RDWR)
                    return
                continue
            kind = json.loads(message)["type"]
            self.controls.append(kind)
            if kind == "flush":
                if ear.speaking:
                    ear.speaking = False
                    say("vad_event", state="speech_end", t_ms=ear.ms)
                final("flush")
            elif kind == "end_session":
                if ear.speaking:
                    say("vad_event", state="speech_end", t_ms=ear.ms)
                    final("end")
                say("session_ended", reason="completed", total_audio_ms=ear.ms, total_segments=0)
                return

    def _ms(self, session: str) -> float:
        return self._acked.get(session, 0) * 1000 / RATE

    def _error(self, socket: ServerConnection, code: str, start: dict[str, Any]) -> None:
        error = {"type": "error", "code": code, "message": f"no: {code}"}
        socket.send(json.dumps({**error, "session_id": start.get("session_id")}))


@contextmanager
def stt_peer(**behaviour: Any) -> Iterator[SttPeer]:
    """Yield a peer that listens on loopback."""
    peer = SttPeer(**behaviour)
    server: Server = serve(peer.serve_session, "127.0.0.1", 0, compression=None)
    peer.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws/stt"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
