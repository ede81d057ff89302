"""Live audio in containers, decoded by processes without rights (``worker.media.sandbox``)."""

import asyncio
import contextlib
import logging
from asyncio import IncompleteReadError
from collections.abc import AsyncIterator

from api.live.errors import INTERNAL_ERROR, INVALID_PAYLOAD, LiveError
from shared.infra.decoder_server import DecoderServer
from shared.speech.audio.decoded import COUNT, HEADER, MAX_RECORD_BYTES, Kind

log = logging.getLogger(__name__)

_MAX_REASON_BYTES = 200

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Decoders:
    """Decoders for the sessions of this process; the first one starts their server."""

    def __init__(self) -> None:
        self._server = DecoderServer()

    async def open(self, *, any_format: bool) -> _Streams:
        """Return the two ends of a new decoder: of any format that streams have, or of WebM alone.

        Raises:
            OSError: there can be none.
        """
        order = {"kind": "stream", "any_format": any_format}
        connection = await asyncio.to_thread(self._server.open, order)
        try:
            return await asyncio.open_unix_connection(sock=connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """End their server; decoders that are at work end with their streams."""
        self._server.close()

    @property
    def pid(self) -> int | None:
        """Of their server; None before the first stream."""
        return self._server.pid


class Decoder:
    """Decodes the stream of one session."""

    def __init__(self, decoders: Decoders, *, any_format: bool) -> None:
        """``any_format``: the stream says itself what it is; else it is WebM with Opus."""
        self._opening = asyncio.create_task(decoders.open(any_format=any_format))
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
                    case Kind.PCM if len(data) % 2 == 0:
                        yield data
                    case Kind.CONSUMED if len(data) == COUNT.size:
                        (self._n_consumed,) = COUNT.unpack(data)
                        self._progress.set()
                    case Kind.UNREADABLE:
                        why = data[:_MAX_REASON_BYTES].decode(errors="replace")
                        raise LiveError("INVALID_MESSAGE", why, INVALID_PAYLOAD)
                    case Kind.END:
                        return
                    case Kind.BUG:
                        log.error("a decoder met an unexpected error: %r", data)
                        raise _lost()
                    case Kind.DIED:
                        log.warning("a decoder died of signal %r", data)
                        raise _lost()
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
