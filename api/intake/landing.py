"""Landing: a file's bytes on their way into the object store, in bounded memory.

A file of up to ``PART_BYTES`` waits in memory and is stored with one request. A larger one is sent
part by part: while one part is received, threads hash and send those before it. If
``PARTS_IN_FLIGHT`` parts are not sent yet, no more is taken from the source, so a slow store slows
the client down. An upload holds at most ``PARTS_IN_FLIGHT + 1`` parts: 24 MiB.

Whatever goes wrong, a vanished client and a stopping server included, the object is removed
afterwards: by this process if it can, and otherwise by the sweeper, which ``begin`` tells of the
object before its first byte is stored.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from shared.infra.errors import EmptyFile, StorageUnavailable, UploadTooLarge
from shared.infra.quantities import size
from shared.infra.storage import PART_BYTES, Storage, Upload

log = logging.getLogger(__name__)

PARTS_IN_FLIGHT = 2
"""Parts of one upload that are being hashed and sent while the next one is received."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Landed:
    """A file that is in the object store whole."""

    n_bytes: int
    sha256: str
    """Hex digest."""


class Cleanups:
    """Removals of failed uploads that go on after the client was answered."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[None]] = set()

    def add(self, cleanup: asyncio.Future[None]) -> None:
        """Keep the cleanup from being forgotten before its end."""
        self._running.add(cleanup)
        cleanup.add_done_callback(self._running.discard)

    async def drain(self, limit_s: float) -> None:
        """Wait until all are over."""
        if self._running:
            await asyncio.wait(self._running, timeout=limit_s)


class Landing:
    """Stores one file as the object ``key``."""

    def __init__(
        self,
        storage: Storage,
        key: str,
        *,
        max_bytes: int,
        threads: CapacityLimiter,
        begin: Callable[[], None],
        abandon: Callable[[], None],
        cleanups: Cleanups,
    ) -> None:
        """Prepare to store.

        Args:
            storage: where the object goes.
            key: its name there.
            max_bytes: the most that the file may have.
            threads: all blocking work runs in these.
            begin: called in a thread before the first byte is stored.
            abandon: called in a thread if nothing of the object may stay, once ``begin`` succeeded.
            cleanups: takes over what is left to do when the store has failed.
        """
        self._storage = storage
        self._key = key
        self._max_bytes = max_bytes
        self._threads = threads
        self._begin, self._abandon = begin, abandon
        self._cleanups = cleanups
        self._begun = False
        self._upload: Upload | None = None
        self._n_parts = 0
        self._sending: deque[asyncio.Future[bytearray]] = deque()
        self._sent: list[bytearray] = []
        """Parts whose memory is used again: to fill it costs a fifth of growing a new part."""
        self._hash = hashlib.sha256()
        self._hashing: asyncio.Future[None] | None = None

    async def land(
        self, data: AsyncIterable[bytes | memoryview], claim: Callable[[Landed], Result]
    ) -> Result:
        """Store what ``data`` yields; return what ``claim`` makes of it.

        ``claim`` runs in the thread that has stored the last byte. If ``data``, the store or
        ``claim`` fails, ``abandon`` is called and the error raised. A cancellation that finds
        ``claim`` running waits for its end.

        Raises:
            EmptyFile: there are no bytes.
            UploadTooLarge: there are more than ``max_bytes``.
            StorageUnavailable: the object store failed.
        """
        try:
            rest, n_bytes = await self._receive(data)
            if self._upload is not None:
                await self._send(rest)
                await self._all_sent()
            return await self._in_thread(partial(self._finish, rest, n_bytes, claim))
        except BaseException as error:
            cleanup = asyncio.ensure_future(self._discard())
            if isinstance(error, StorageUnavailable):
                # The cleanup would fail too, after its timeouts. The client does not wait for that.
                self._cleanups.add(cleanup)
            else:
                await to_its_end(cleanup)
            raise

    async def _receive(self, data: AsyncIterable[bytes | memoryview]) -> tuple[bytearray, int]:
        """Send all full parts that are not the last; return the last part and the file's size."""
        part, n_filled, n_bytes = bytearray(), 0, 0
        async for piece in data:
            n_bytes += len(piece)
            if n_bytes > self._max_bytes:
                raise too_large(self._max_bytes)
            rest = memoryview(piece)
            while n_filled + len(rest) > PART_BYTES:
                room = PART_BYTES - n_filled
                part[n_filled:] = rest[:room]
                rest = rest[room:]
                await self._send(part)
                part, n_filled = self._sent.pop() if self._sent else bytearray(), 0
            part[n_filled : n_filled + len(rest)] = rest  # appends where the part is new
            n_filled += len(rest)
        del part[n_filled:]
        if n_bytes == 0:
            raise EmptyFile("the file is empty")
        return part, n_bytes

    async def _send(self, part: bytearray) -> None:
        """Have a part hashed and sent; wait while ``PARTS_IN_FLIGHT`` are under way."""
        if self._upload is None:
            await self._in_thread(self._start)
        while len(self._sending) >= PARTS_IN_FLIGHT:
            await self._oldest_sent()
        if self._hashing is not None:
            await asyncio.shield(self._hashing)
        self._n_parts += 1
        self._hashing = self._start_thread(partial(self._hash.update, part))
        self._sending.append(self._start_thread(partial(self._send_part, self._n_parts, part)))

    async def _oldest_sent(self) -> None:
        part = await asyncio.shield(self._sending[0])
        self._sending.popleft()
        self._sent.append(part)

    async def _all_sent(self) -> None:
        while self._sending:
            await self._oldest_sent()
        if self._hashing is not None:
            await asyncio.shield(self._hashing)

    def _start(self) -> None:
        self._begin_once()
        self._upload = self._storage.start_upload(self._key)

    def _begin_once(self) -> None:
        self._begin()
        self._begun = True

    def _send_part(self, number: int, part: bytearray) -> bytearray:
        assert self._upload is not None
        self._upload.send(number, part)
        return part

    def _finish(self, rest: bytearray, n_bytes: int, claim: Callable[[Landed], Result]) -> Result:
        """See that the store has all of the file, make it visible, and hand it to ``claim``."""
        if self._upload is None:
            self._hash.update(rest)
            self._begin_once()
            self._storage.put(self._key, rest)
        else:
            if self._upload.stored_bytes() != n_bytes:
                raise StorageUnavailable("the object store did not keep the whole file")
            self._upload.finish()
            self._upload = None
        return claim(Landed(n_bytes, self._hash.hexdigest()))

    async def _discard(self) -> None:
        """Remove what was stored, or see that it is removed."""
        # Parts may be deleted only while no thread sends one.
        under_way: list[asyncio.Future[Any]] = [*self._sending]
        if self._hashing is not None:
            under_way.append(self._hashing)
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._begun:
            await self._in_thread(self._remove)

    def _remove(self) -> None:
        if self._upload is not None:
            try:
                # Later only the sweeper can abort it, by the store's list of uploads. Not every
                # store has one.
                self._upload.abort()
            except StorageUnavailable as error:
                log.warning("%s: the upload of %s is aborted later", error, self._key)
        self._abandon()

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await to_its_end(self._start_thread(work))

    def _start_thread(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        return asyncio.ensure_future(to_thread.run_sync(work, limiter=self._threads))


async def to_its_end(running: asyncio.Future[Result]) -> Result:
    """Wait for ``running``; a cancellation is raised only once it has ended.

    A thread cannot be stopped: what it does must be over before its outcome is undone.
    """
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await running
        raise


def too_large(max_bytes: int, setting: str = "LONGHAND_MAX_UPLOAD_BYTES") -> UploadTooLarge:
    """Return the refusal of a file of more than ``max_bytes``, which a setting allows."""
    return UploadTooLarge(
        f"the file is larger than {size(max_bytes)} ({setting}, or your own limit)"
    )
