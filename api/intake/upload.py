"""Receiving a file: from the socket through the hash into the object store, in bounded memory.

At most a batch of bytes waits here and a part in the store's writer; the next bytes are read from
the client only after these are written, so a slow store slows the client down. Whatever goes wrong,
a vanished client and a server that stops included, the object is removed afterwards: by this
process if it can, and else by the sweeper, to which it was named before its first byte was stored.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from api.intake.form import Form
from api.intake.multipart import MAX_FIELD_BYTES, MAX_PARTS, Field, FileBegin, FileData, FormParser
from shared.infra.errors import (
    EmptyFile,
    StorageUnavailable,
    TooManyUploads,
    UploadStalled,
    UploadTooLarge,
)
from shared.infra.quantities import duration, size
from shared.infra.storage import Storage, Upload
from shared.models.options import MAX_METADATA_BYTES, JobOptions, ResolvedOptions
from shared.speech.accuracy import MAX_REFERENCE_CHARS

log = logging.getLogger(__name__)

IDLE_S = 30.0
"""How long a client may send nothing; the usual value of proxies is 30 to 60 s."""

LIMIT_S = 12 * 3600.0
"""How long an upload may take in all: 2 GiB at 50 kB/s."""

ALLOWANCE_S = 2 * LIMIT_S
"""When the sweeper removes an upload whose job was not committed. None is under way by then: the
bytes come within ``LIMIT_S``, and what follows them takes minutes at most."""

_BATCH_BYTES = 1024**2
"""Bytes gathered for one hop into a thread, which costs as much as hashing some 100 KiB."""

_LONG_FIELDS = {
    "reference": 4 * MAX_REFERENCE_CHARS,  # UTF-8 has at most four bytes for a character
    "metadata": MAX_METADATA_BYTES,
}
"""Fields that may be longer than the parser's usual limit, in bytes."""

_FORM_BYTES = MAX_PARTS * (MAX_FIELD_BYTES + 1024) + sum(_LONG_FIELDS.values())
"""The most that fields, headers and boundaries add to a file."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that is in the object store whole."""

    name: str
    n_bytes: int
    sha256: str
    asked: JobOptions
    options: ResolvedOptions
    """What follows from ``asked``."""


class Receiver:
    """Receives the upload of one request as the object ``key``, counting its bytes."""

    def __init__(
        self,
        storage: Storage,
        key: str,
        *,
        max_bytes: int,
        threads: CapacityLimiter,
        count_bytes: Callable[[int], None],
        begin: Callable[[], None],
        abandon: Callable[[], None],
        idle_s: float = IDLE_S,
        limit_s: float = LIMIT_S,
    ) -> None:
        """Prepare to receive.

        Args:
            storage: where the object goes.
            key: its name there.
            max_bytes: of the file.
            threads: in which the store is written to; ``begin`` and ``abandon`` run there too.
            count_bytes: is told of bytes as they come in.
            begin: called before the first byte is stored.
            abandon: called after ``begin`` where nothing of the object may stay.
            idle_s: how long the client may be silent.
            limit_s: how long the upload may take.
        """
        self._storage = storage
        self.key = key
        self._max_bytes = max_bytes
        self._threads = threads
        self._count_bytes = count_bytes
        self._begin, self._abandon = begin, abandon
        self._idle_s, self._limit_s = idle_s, limit_s
        self._upload: Upload = storage.start_upload(key)
        self._hash = hashlib.sha256()
        self._batch = bytearray()
        self._n_bytes = 0
        self._begun = False

    async def receive(self, request: Request, form: Form) -> ReceivedFile:
        """Store the request's file; on any failure nothing of it is left.

        Raises:
            RequestError: the body is not a form with one file within the limits and good options.
            StorageUnavailable: the object store failed.
            ClientDisconnect: the client went away.
        """
        parser = FormParser(
            request.headers.get("content-type"),
            texts=JobOptions.model_fields,
            long_fields=_LONG_FIELDS,
        )
        self._refuse_declared_size(request)
        name = ""
        complete = False
        try:
            async for data in self._chunks(request):
                for event in parser.feed(data):
                    match event:
                        case Field():
                            form.add(event)
                        case FileBegin():
                            form.check_so_far()
                            name = event.file_name
                        case FileData():
                            await self._take(event.data)
            # Before the parser misses the file: a field unknown to us may be meant as such.
            asked, options = form.resolve()
            parser.finish()
            if self._n_bytes == 0:
                raise EmptyFile("the file is empty")
            await self._in_thread(self._finish)
            complete = True
        finally:
            if not complete:
                await self._in_thread(self._discard)
        return ReceivedFile(name, self._n_bytes, self._hash.hexdigest(), asked, options)

    def _refuse_declared_size(self, request: Request) -> None:
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > self._max_bytes + _FORM_BYTES:
            raise self._too_large()

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body as it comes, as long as it comes."""
        n_bytes = 0
        ends = asyncio.get_running_loop().time() + self._limit_s
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    data = await anext(stream, None)
            except TimeoutError as error:
                raise UploadStalled(f"nothing was received for {duration(self._idle_s)}") from error
            if data is None:
                return
            if asyncio.get_running_loop().time() > ends:
                raise UploadStalled(f"the upload took longer than {duration(self._limit_s)}")
            n_bytes += len(data)
            self._count_bytes(len(data))
            if n_bytes > self._max_bytes + _FORM_BYTES:
                raise self._too_large()
            yield data

    async def _take(self, data: bytes) -> None:
        self._n_bytes += len(data)
        if self._n_bytes > self._max_bytes:
            raise self._too_large()
        self._batch += data
        if len(self._batch) >= _BATCH_BYTES:
            await self._in_thread(self._write_batch)

    def _write_batch(self) -> None:
        if not self._begun:
            self._begin()
            self._begun = True
        batch = bytes(self._batch)
        self._batch.clear()
        self._hash.update(batch)
        self._upload.write(batch)

    def _finish(self) -> None:
        """Make the object visible, and see that the store has all of it."""
        self._write_batch()
        self._upload.finish()
        if self._storage.size(self.key) != self._n_bytes:
            raise StorageUnavailable("the object store did not keep the whole file")

    def _discard(self) -> None:
        if not self._begun:
            return
        try:
            # Not every store lists what was begun: here its id is known.
            self._upload.abort()
        except StorageUnavailable as error:
            log.warning("%s: the upload of %s is aborted later", error, self.key)
        self._abandon()

    def _too_large(self) -> UploadTooLarge:
        return UploadTooLarge(
            f"the file is larger than {size(self._max_bytes)} (LONGHAND_MAX_UPLOAD_BYTES)"
        )

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` to its end, even when this request is cancelled meanwhile.

        A thread cannot be stopped; what it does must be over before its outcome is undone.
        """
        running = asyncio.ensure_future(to_thread.run_sync(work, limiter=self._threads))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


class UploadSlots:
    """How many uploads may be under way at once; past that they are refused, not queued.

    For use on the event loop only: nothing is locked.
    """

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
        self._taken = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        """Take a slot.

        Raises:
            TooManyUploads: none is free.
        """
        if self._taken == self._n_slots:
            raise TooManyUploads(f"{self._n_slots} uploads are under way, which is the limit")
        self._taken += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        """Give the slot back."""
        self._taken -= 1
        if self._taken == 0:
            self._idle.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until no upload is under way, those included that are cancelled and cleaned up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
