"""A live session with a server, over ``/ws/stt``."""

import json
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urlunsplit
from uuid import uuid4

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cli.errors import CommandError, os_reason
from cli.listen.sound import RATE, Sound
from cli.server_key import key_headers

OPEN_LIMIT_S = 10.0
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
            with closing(self._connect()) as socket:
                socket.send(
                    json.dumps(
                        {
                            "type": "start_session",
                            "session_id": f"listen-{uuid4()}",
                            "config": {**self._config, "sample_rate": RATE},
                        }
                    )
                )
                first = json.loads(socket.recv())
                if first["type"] == "error":  # whatever it is: the session has not begun
                    raise CommandError(_sentence(first))
                sender = threading.Thread(target=self._send, args=(socket, sound), daemon=True)
                sender.start()
                self._receive(socket)
        except ConnectionClosed as error:
            raise CommandError(f"the connection to {self._url} was lost") from error

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

    def _send(self, socket: ClientConnection, sound: Sound) -> None:
        try:
            for piece in sound.pieces(self._sent_all):
                socket.send(piece)
        except ConnectionClosed:
            return  # the thread that receives tells why
        except Exception as error:  # noqa: BLE001 - the main thread raises it
            self._error = error
        self._sent_all.set()
        try:
            socket.send(json.dumps({"type": "flush"}))
            socket.send(json.dumps({"type": "end_session"}))
        except ConnectionClosed:
            return

    def _receive(self, socket: ClientConnection) -> None:
        for data in socket:
            message = json.loads(data)
            match message["type"]:
                case "partial_transcript":
                    self._on_partial(message["text"])
                case "final_transcript":
                    self._on_final(message["text"])
                case "error":
                    self._receive_error(message)
                case "session_ended":
                    if message["reason"] != "completed":
                        raise CommandError(f"the server ended the session: {message['reason']}")
                    return
        raise CommandError(f"{self._url} closed the connection before the session's end")

    def _receive_error(self, message: dict[str, Any]) -> None:
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
