"""A live session with a server, over ``/ws/stt``, which goes on after a lost connection."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import SplitResult, urlunsplit
from uuid import uuid4

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cli.errors import CommandError, os_reason
from cli.listen.sound import RATE, Sound
from cli.server_key import key_headers
from shared.speech.live.sent import Flush, Unacknowledged

OPEN_LIMIT_S = 10.0
RESUME_LIMIT_S = 45.0
"""How long a lost connection is tried again; a server keeps a session for a minute."""
RESUME_EVERY_S = 0.5
REPLAY_SAMPLES = RATE // 2
PASSING = {"QUEUE_FULL", "QUEUE_CONGESTION", "MAX_SESSIONS_REACHED"}
"""Codes of errors with which a session does not go on now, and may go on later."""
FLUSH, END_SESSION = (json.dumps({"type": kind}) for kind in ("flush", "end_session"))
LATE = {"QUEUE_FULL", "QUEUE_CONGESTION"}
"""Codes of errors in a session that goes on: texts come later than usual."""


class Session:
    """One session; ``run`` it once, in a thread of its own."""

    def __init__(
        self,
        address: SplitResult,
        config: dict[str, Any],
        *,
        on_partial: Callable[[str], None],
        on_final: Callable[[str], None],
        on_warning: Callable[[str], None],
    ) -> None:
        """Prepare a session with the server at an http(s) address; nothing is connected to yet.

        ``config`` is that of ``start_session``, without the sample rate. The functions are called
        in the thread that runs the session. ``on_warning`` gets a sentence.
        """
        scheme = "wss" if address.scheme == "https" else "ws"
        path = address.path.rstrip("/")
        self._url = urlunsplit((scheme, address.netloc, f"{path}/ws/stt", "", ""))
        # A proxy that the environment names cannot reach this machine's loopback.
        self._is_local = address.hostname in ("127.0.0.1", "localhost", "::1")
        self._config = config
        self._on_partial, self._on_final, self._on_warning = on_partial, on_final, on_warning
        self._socket: ClientConnection | None = None
        """None while there is no connection."""
        self._turn = threading.Lock()
        """Held while something is sent: a new connection first gets what is unacknowledged."""
        self._kept, self._keeping = Unacknowledged(), threading.Lock()
        self._token: str | None = None
        self._last_segment = ""
        """Of the last final."""
        self._has_ended_input = False
        self._sent_all = threading.Event()
        self._error: Exception | None = None
        self.done = threading.Event()
        """Set once the session is over."""

    def end(self) -> None:
        """Send no more audio: what was sent still gets its text."""
        self._sent_all.set()

    def run(self, sound: Sound) -> None:
        """Hold the session until the sound's text is there; ``check`` tells how that went."""
        try:
            self._run(sound)
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._error = self._error or error
        finally:
            self._sent_all.set()
            self.done.set()

    def check(self) -> None:
        """Raise what has ended the session before its time.

        Raises:
            CommandError: the server cannot be reached, or refuses; the sound cannot be read.
            BrokenPipeError: nobody reads the text any more.
        """
        if self._error is not None:
            raise self._error

    def _run(self, sound: Sound) -> None:
        try:
            with self._begin() as socket:
                threading.Thread(target=self._send, args=(sound,), daemon=True).start()
                is_over = self._receive(socket)
        except ConnectionClosed as error:  # before the session began
            raise self._lost() from error
        while not is_over:
            self._on_warning(f"the connection to {self._url} was lost; the session goes on")
            with self._resume() as socket:
                is_over = self._receive(socket)

    @contextmanager
    def _begin(self) -> Iterator[ClientConnection]:
        """Begin the session, and have what is sent go to its connection."""
        config = {**self._config, "sample_rate": RATE}
        with closing(self._connect()) as socket:
            started = self._ask(socket, session_id=f"listen-{uuid4()}", config=config)
            if started["type"] == "error":  # whatever it is: the session has not begun
                raise CommandError(_sentence(started))
            self._token = started.get("resume_token")
            self._socket = socket
            yield socket

    @contextmanager
    def _resume(self) -> Iterator[ClientConnection]:
        """Go on with the session over a new connection."""
        ends = time.monotonic() + RESUME_LIMIT_S
        while (socket := self._try_to_resume()) is None:
            if time.monotonic() > ends:
                raise self._lost()
            time.sleep(RESUME_EVERY_S)
        with closing(socket):
            yield socket

    def _try_to_resume(self) -> ClientConnection | None:
        """Connect and send what is unacknowledged; return None if it may work later."""
        try:
            socket = self._connect()
        except CommandError:
            return None
        try:
            started = self._ask(socket, resume_token=self._token, last_segment=self._last_segment)
            if started["type"] == "error" and started["code"] not in PASSING:
                raise CommandError(_sentence(started))
            if started["type"] == "session_started":
                self._send_again(socket, round(started["acked_ms"] * RATE / 1000))
                return socket
        except ConnectionClosed:
            pass
        except BaseException:
            socket.close()
            raise
        socket.close()
        return None

    def _ask(self, socket: ClientConnection, **members: Any) -> dict[str, Any]:
        """Send ``start_session`` and return the answer."""
        socket.send(json.dumps({"type": "start_session", **members}))
        answer: dict[str, Any] = json.loads(socket.recv())
        return answer

    def _send_again(self, socket: ClientConnection, acked: int) -> None:
        """Send what the session lacks; what follows goes to this connection."""
        with self._turn:
            with self._keeping:
                missing = [*self._kept.resume(acked, REPLAY_SAMPLES)]
            for piece in missing:
                socket.send(FLUSH if isinstance(piece, Flush) else piece)
            if self._has_ended_input:
                socket.send(END_SESSION)
            self._socket = socket

    def _lost(self) -> CommandError:
        return CommandError(f"the connection to {self._url} was lost")

    def _connect(self) -> ClientConnection:
        try:
            return connect(
                self._url,
                proxy=None if self._is_local else True,
                compression=None,
                additional_headers=key_headers(),
                open_timeout=OPEN_LIMIT_S,
            )
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise CommandError(
                    f"{self._url} wants an API key with the scope 'live': set LONGHAND_API_KEY"
                ) from error
            raise CommandError(f"{self._url} answered {status}, and takes no live audio") from error
        except InvalidHandshake as error:
            raise CommandError(f"{self._url} does not answer like a Longhand server") from error
        except OSError as error:  # also when it does not answer in time
            raise CommandError(f"cannot reach {self._url}: {os_reason(error)}") from error

    def _send(self, sound: Sound) -> None:
        try:
            for piece in sound.pieces(self._sent_all):
                with self._turn:
                    with self._keeping:
                        self._kept.append(piece)
                    self._pass_on(piece)
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._error = error
        self._sent_all.set()
        with self._turn:
            with self._keeping:
                self._kept.append_flush()
            self._has_ended_input = True
            self._pass_on(FLUSH)
            self._pass_on(END_SESSION)

    def _pass_on(self, message: bytes | str) -> None:
        """Send a message if there is a connection; a new one gets what this one misses."""
        if self._socket is not None:
            try:
                self._socket.send(message)
            except ConnectionClosed:
                self._socket = None

    def _receive(self, socket: ClientConnection) -> bool:
        """Take what comes; return False if the connection is lost and the session may go on."""
        try:
            for data in socket:
                message = json.loads(data)
                match message["type"]:
                    case "partial_transcript":
                        self._on_partial(message["text"])
                    case "final_transcript":
                        self._receive_final(message)
                    case "error":
                        self._receive_error(message)
                    case "session_ended" if message["reason"] == "completed":
                        return True
                    case "session_ended" if message["reason"] != "error" or self._token is None:
                        raise CommandError(f"the server ended the session: {message['reason']}")
        except ConnectionClosed:
            pass
        if self._token is None:
            raise self._lost()
        return False

    def _receive_final(self, message: dict[str, Any]) -> None:
        self._on_final(message["text"])
        self._last_segment = message["segment_id"]
        end_ms = message["start_ms"] + message["audio_duration_ms"]
        with self._keeping:
            self._kept.acknowledge(round(end_ms * RATE / 1000))
            if message["reason"] == "flush":
                self._kept.acknowledge_flush()

    def _receive_error(self, message: dict[str, Any]) -> None:
        """Tell of an error.

        Raises:
            CommandError: the session cannot go on.
        """
        sentence = _sentence(message)
        if message["code"] in LATE:
            self._on_warning(f"the server is late: {sentence}")
        elif message["code"] == "INFERENCE_ERROR":
            self._on_warning(f"something said was not transcribed: {sentence}")
            self._error = CommandError("the text is not whole")
        else:
            raise CommandError(sentence)


def _sentence(error: dict[str, Any]) -> str:
    """Return what a message ``error`` says."""
    return str(error["message"]).rstrip(".")
