"""Clients of the WebSocket protocols."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

FRAME_BYTES = 640
"""20 ms."""


class LiveClient:
    """A connection that sends and reads JSON and audio."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        self.connection.send(json.dumps(message) if isinstance(message, dict) else message)

    def start(self, **members: Any) -> dict[str, Any]:
        """Start a session of ``/ws/stt``, and return the answer."""
        self.send({"type": "start_session", **members})
        return self.read()

    def stream(self, pcm: bytes, frame_bytes: int = FRAME_BYTES, pause_s: float = 0.0) -> None:
        for start in range(0, len(pcm), frame_bytes):
            self.send(pcm[start : start + frame_bytes])
            time.sleep(pause_s)

    def read(self, timeout_s: float = 60.0) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.connection.recv(timeout_s))
        return message

    def read_until(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages up to the first one of a kind."""
        found = [self.read()]
        while found[-1]["type"] != kind:
            found.append(self.read())
        return found

    def read_all(self) -> tuple[list[dict[str, Any]], int]:
        """Return all messages until the connection is closed, and the close code."""
        found = []
        try:
            while True:
                found.append(self.read())
        except ConnectionClosed as closed:
            return found, closed.rcvd.code if closed.rcvd else 1006


@contextmanager
def live(client: httpx.Client, path: str = "/ws/stt", **options: Any) -> Iterator[LiveClient]:
    """Connect to the server of an HTTP client."""
    url = str(client.base_url.copy_with(scheme="ws")).rstrip("/") + path
    with connect(url, compression=None, open_timeout=60, **options) as connection:
        yield LiveClient(connection)


def of(kind: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == kind]
