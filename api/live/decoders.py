"""Live audio in containers, decoded by processes beside this one (``worker.media.live``)."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from asyncio import IncompleteReadError
from collections.abc import AsyncIterator

from api.live.errors import INTERNAL_ERROR, INVALID_PAYLOAD, LiveError
from shared.speech.live.decoded import COUNT, HEADER, MAX_RECORD_BYTES, Kind

_PROGRAM = "worker.media.live"
_STOP_S = 5.0
"""How long the process may take to end by itself."""

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Decoders:
    """The process that forks decoders. It is started by the first stream, and anew when it died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    async def open(self) -> _Streams:
        """Return the two ends of a new decoder.

        Raises:
            OSError: there can be none.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await asyncio.to_thread(self._hand_over, theirs)
            return await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise

    def close(self) -> None:
        """End the process; decoders that are at work end with their streams."""
        with self._lock:
            self._stop()

    @property
    def pid(self) -> int | None:
        """Of the process; None before the first stream."""
        return None if self._process is None else self._process.pid

    def _hand_over(self, connection: socket.socket) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            try:
                self._send(connection)
            except OSError:  # it has died this moment
                self._start()
                self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        assert self._control is not None
        socket.send_fds(self._control, [b"\0"], [connection.fileno()])

    def _start(self) -> None:
        self._stop()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _PROGRAM, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # It finds what this process finds, and is told none of its secrets.
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                # Signals to this process's group do not reach it, as sessions drain first.
                start_new_session=True,
            )

    def _stop(self) -> None:
        if self._control is None or self._process is None:
            return
        self._control.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class Decoder:
    """Decodes the stream of one session."""

    def __init__(self, decoders: Decoders) -> None:
        self._opening = asyncio.create_task(decoders.open())
        self._n_fed = 0
        self._n_consumed = 0
        self._is_finished = False
        self._is_over = False
        self._progress = asyncio.Event()

    async def feed(self, data: bytes) -> None:
        """Take bytes of the stream. This waits while the decoder is behind."""
        if self._is_finished:
            return
        with contextlib.suppress(OSError):  # ``pieces`` tells
            _, writer = await asyncio.shield(self._opening)
            if not writer.is_closing():
                self._n_fed += len(data)
                writer.write(data)
                await writer.drain()

    async def settle(self) -> None:
        """Wait until the audio of all that was fed has been taken from ``pieces``."""
        while self._n_consumed < self._n_fed and not self._is_over:
            self._progress.clear()
            await self._progress.wait()

    def finish(self) -> None:
        """Take no more: ``pieces`` ends after what is left."""
        self._is_finished = True
        self._opening.add_done_callback(_end_input)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the audio, s16le at 16 kHz, up to the stream's end.

        Raises:
            LiveError: the stream cannot be decoded, or the decoder has died.
        """
        try:
            reader, _ = await asyncio.shield(self._opening)
            while True:
                kind, size = HEADER.unpack(await reader.readexactly(HEADER.size))
                if size > MAX_RECORD_BYTES:
                    raise _lost()
                data = await reader.readexactly(size)
                match kind:
                    case Kind.PCM:
                        yield data
                    case Kind.CONSUMED:
                        (self._n_consumed,) = COUNT.unpack(data)
                        self._progress.set()
                    case Kind.UNREADABLE:
                        raise LiveError("INVALID_MESSAGE", data.decode(), INVALID_PAYLOAD)
                    case Kind.END:
                        return
                    case _:
                        raise _lost()
        except (IncompleteReadError, OSError) as error:
            raise _lost() from error
        finally:
            self._is_over = True
            self._progress.set()

    async def close(self) -> None:
        """Drop the stream; the decoder's process ends."""
        with contextlib.suppress(OSError):
            _, writer = await self._opening
            writer.transport.abort()  # what is not decoded yet need not be


def _end_input(opening: "asyncio.Future[_Streams]") -> None:
    with contextlib.suppress(OSError):  # ``pieces`` tells
        _, writer = opening.result()
        if not writer.is_closing():
            writer.write_eof()


def _lost() -> LiveError:
    return LiveError("INTERNAL_ERROR", "The audio's decoder has died.", INTERNAL_ERROR)
