"""Appending to a resumable upload: one PATCH's bytes on their way into the object store.

Full parts are sent while the next one is received, as in ``api.intake.landing``. Beside all that
the offset is committed once the store has a part: when the commit before has ended and ``COMMIT_S``
are over since it began, or when ``COMMIT_BYTES`` wait for it. A process that is killed costs the
parts in flight and those that wait for their commit.

What is left at the PATCH's end, less than a part, is an object of its own until more comes (S3
takes no small parts before the last). An append holds at most ``PARTS_IN_FLIGHT + 1`` parts: 24
MiB.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from anyio import CapacityLimiter, to_thread

from api.intake.landing import PARTS_IN_FLIGHT, to_its_end
from api.uploads.transfers import Transfers
from shared.infra.errors import (
    ChecksumMismatch,
    LonghandError,
    OffsetMismatch,
    StorageUnavailable,
    UploadTooLarge,
)
from shared.infra.storage import PART_BYTES
from shared.store.uploads import Upload

log = logging.getLogger(__name__)

COMMIT_S = 0.25
"""Least time between two commits: on a fast network they would cost as much as the sending."""
COMMIT_BYTES = 4 * PART_BYTES
"""The most that waits for its commit longer than a commit takes."""

Result = TypeVar("Result")


class Digest(Protocol):
    """A hash of ``hashlib``."""

    def update(self, data: Any, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the digest of the bytes so far."""


class Append:
    """Appends to one upload, in the epoch that ``begin_append`` gave; use it once."""

    def __init__(
        self,
        transfers: Transfers,
        upload: Upload,
        *,
        sha256: Digest | None,
        checksum: tuple[Digest, bytes] | None,
        threads: CapacityLimiter,
    ) -> None:
        """Prepare to append.

        Args:
            transfers: what stores and commits.
            upload: open, with its multipart upload.
            sha256: of all bytes before the offset, to be continued; None: not known.
            checksum: a fresh digest and what it must be in the end, of what is appended alone. With
                it nothing is committed before the end.
            threads: all blocking work runs in these.
        """
        self._transfers = transfers
        self._upload = upload
        self._sha256 = sha256
        self._checksum = checksum
        self._threads = threads
        self._committed = upload.offset_bytes
        self._number = upload.offset_bytes // PART_BYTES + 1
        """Of the part that is being filled."""
        self._part = bytearray(PART_BYTES)
        self._n_filled = self._n_hashed = upload.offset_bytes % PART_BYTES
        """Bytes of the part, and those of them that are in ``sha256``."""
        self._sending: deque[tuple[asyncio.Future[bytearray], int]] = deque()
        """Parts on their way, in their order, each with the offset of its end."""
        self._free: list[bytearray] = []
        self._committing: tuple[asyncio.Future[None], int] | None = None
        """The commit under way, with its offset."""
        self._commit_at = 0.0
        """When the next one is due, by the event loop's clock."""
        self._hashing: asyncio.Future[None] | None = None

    @property
    def offset(self) -> int:
        """The end of what was received."""
        return (self._number - 1) * PART_BYTES + self._n_filled

    @property
    def sha256(self) -> Digest | None:
        """That of all bytes before ``offset``, once the append has ended well; None: unknown."""
        return self._sha256

    async def append(self, data: AsyncIterable[bytes]) -> None:
        """Store what ``data`` yields, and commit it; a last part is left to ``finish``.

        If ``data`` fails, what it yielded before is stored and committed all the same, unless there
        is a checksum.

        Raises:
            UploadTooLarge: it is more than the upload lacks.
            ChecksumMismatch: it is not what the client says; nothing of it is kept. If it filled a
                part, the upload begins anew.
            OffsetMismatch: another append has begun.
            StorageUnavailable: the object store failed.
        """
        try:
            await self._read_tail()
            await self._receive(data)
        except BaseException as error:
            gave_up = isinstance(error, OffsetMismatch) or self._checksum is not None
            await to_its_end(asyncio.ensure_future(self._end_early(keep=not gave_up)))
            raise
        async with self._settled():
            await self._check()
            if self.offset < self._upload.size_bytes:
                await self._commit_rest()

    async def finish(self) -> Upload:
        """Send the last part, once ``append`` has received it, and make the object.

        Returns:
            The upload; complete or failed if its digest is known, else to be verified.
        """
        async with self._settled():
            if self._n_filled:
                await self._send()
            while self._sending:
                await self._oldest_sent(commit=False)
            await self._commit_ended()
            await self._hashed()
        upload = await self._in_thread(self._transfers.finish, self._upload)
        await self._drop_tail()
        if self._sha256 is None:
            return upload
        return await self._in_thread(self._transfers.note, upload, self._sha256.digest().hex())

    async def _read_tail(self) -> None:
        if self._n_filled:
            tail = await self._in_thread(self._transfers.read_tail, self._upload)
            self._part[: len(tail)] = tail

    async def _receive(self, data: AsyncIterable[bytes]) -> None:
        async for piece in data:
            if self.offset + len(piece) > self._upload.size_bytes:
                raise UploadTooLarge(
                    f"more came than the {self._upload.size_bytes} bytes that were declared"
                )
            if self._checksum is not None:
                self._checksum[0].update(piece)
            rest = memoryview(piece)
            while rest:
                if self._n_filled == PART_BYTES:
                    await self._send()
                taken = rest[: PART_BYTES - self._n_filled]
                self._part[self._n_filled : self._n_filled + len(taken)] = taken
                self._n_filled += len(taken)
                rest = rest[len(taken) :]

    async def _send(self) -> None:
        """Have the part hashed and sent; wait while ``PARTS_IN_FLIGHT`` are under way."""
        while len(self._sending) >= PARTS_IN_FLIGHT:
            await self._oldest_sent(commit=self._checksum is None)
        await self._hash()
        sent = self._start_thread(self._send_part, self._number, self._part, self._n_filled)
        self._sending.append((sent, self.offset))
        self._part = self._free.pop() if self._free else bytearray(PART_BYTES)
        self._number += 1
        self._n_filled = self._n_hashed = 0

    def _send_part(self, number: int, part: bytearray, n_bytes: int) -> bytearray:
        whole = part if n_bytes == PART_BYTES else part[:n_bytes]
        self._transfers.multipart(self._upload).send(number, whole)
        return part

    async def _hash(self) -> None:
        """Have what the part gained hashed, once all before it is."""
        await self._hashed()
        if self._sha256 is not None and self._n_filled > self._n_hashed:
            gained = memoryview(self._part)[self._n_hashed : self._n_filled]
            self._hashing = self._start_thread(self._sha256.update, gained)
            self._n_hashed = self._n_filled

    async def _hashed(self) -> None:
        if self._hashing is not None:
            await asyncio.shield(self._hashing)

    async def _oldest_sent(self, *, commit: bool) -> None:
        sent, stop = self._sending[0]
        try:
            part = await asyncio.shield(sent)
        except StorageUnavailable:
            await self._check_epoch()
            raise
        self._sending.popleft()
        await self._hashed()
        self._free.append(part)
        if commit and self._is_commit_due(stop):
            await self._commit_ended()
            self._commit_at = asyncio.get_running_loop().time() + COMMIT_S
            committing = self._start_thread(self._transfers.commit, self._upload, stop)
            self._committing = (committing, stop)

    async def _check_epoch(self) -> None:
        """See that no other append has begun: it may have ended the store's upload.

        Raises:
            OffsetMismatch: one has.
        """
        await self._commit_ended()
        await self._in_thread(self._transfers.commit, self._upload, self._committed)

    def _is_commit_due(self, stop: int) -> bool:
        """Return whether to commit the offset ``stop`` now; if not, a later one has it, too."""
        before, is_under_way = self._committed, False
        if self._committing is not None:
            committing, before = self._committing
            is_under_way = not committing.done()
        if stop - before >= COMMIT_BYTES:
            return True
        return not is_under_way and asyncio.get_running_loop().time() >= self._commit_at

    async def _commit_ended(self) -> None:
        """Wait for the commit under way.

        Raises:
            OffsetMismatch: another append has begun.
        """
        if self._committing is not None:
            committing, stop = self._committing
            try:
                await asyncio.shield(committing)
            finally:
                if committing.done():
                    self._committing = None
            self._committed = stop

    async def _check(self) -> None:
        if self._checksum is None:
            return
        digest, expected = self._checksum
        if digest.digest() == expected:
            return
        await self._settle()
        if self._number > self._upload.offset_bytes // PART_BYTES + 1:
            # Parts were sent in vain, and not every store has them replaced.
            await self._in_thread(self._transfers.begin_anew, self._upload)
        raise ChecksumMismatch("what was sent is not what Upload-Checksum says")

    async def _commit_rest(self) -> None:
        """Store and commit all that was received, which is not the whole file."""
        if self._n_filled == PART_BYTES:
            await self._send()
        while self._sending:
            await self._oldest_sent(commit=False)
        await self._commit_ended()
        await self._hash()
        await self._hashed()
        if self.offset != self._committed:
            tail = bytes(memoryview(self._part)[: self._n_filled])
            await self._in_thread(self._transfers.keep_tail, self._upload, self.offset, tail)
            self._committed = self.offset
            await self._drop_tail()

    async def _drop_tail(self) -> None:
        """Delete the object of the tail that this append began with."""
        if self._upload.offset_bytes % PART_BYTES:
            await self._in_thread(self._transfers.drop_tail, self._upload)

    async def _end_early(self, *, keep: bool) -> None:
        """Let what is under way end; with ``keep`` commit what can be."""
        await self._settle()
        self._sha256 = None  # unknown what it has
        if keep and self.offset < self._upload.size_bytes:
            try:
                await self._commit_rest()
            except LonghandError as error:
                log.info("%s: upload %s goes on where it was", error, self._upload.id)

    @asynccontextmanager
    async def _settled(self) -> AsyncIterator[None]:
        """If the block fails, let what is under way end before the error is raised."""
        try:
            yield
        except BaseException:
            await to_its_end(asyncio.ensure_future(self._settle()))
            raise

    async def _settle(self) -> None:
        """Wait for all threads, whatever comes of them."""
        under_way: list[asyncio.Future[Any]] = [sent for sent, _ in self._sending]
        if self._hashing is not None:
            under_way.append(self._hashing)
        if self._committing is not None:
            under_way.append(self._committing[0])
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await to_its_end(self._start_thread(work, *arguments))

    def _start_thread(self, work: Callable[..., Result], *arguments: Any) -> asyncio.Future[Result]:
        return asyncio.ensure_future(
            to_thread.run_sync(partial(work, *arguments), limiter=self._threads)
        )


def new_sha256() -> Digest:
    """Return the digest of a file that has not begun."""
    return hashlib.sha256()
