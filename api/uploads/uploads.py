"""Uploads as the API's requests use them; for use on one event loop only."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from anyio import CapacityLimiter, to_thread

from api.intake.submit import Intake
from api.uploads.append import Append, Digest, new_sha256
from api.uploads.transfers import Transfers, part_of
from shared.infra.errors import UploadTooLarge
from shared.infra.storage import StoredPart
from shared.store.limits import Limits
from shared.store.states import UploadState
from shared.store.uploads import NewUpload, Upload, begin_append, check_complete

WAIT_S = 30.0
"""How long a request waits for an upload's SHA-256. Proxies usually give up after 60 s."""

_VERIFYING_THREADS = 2
"""Uploads whose SHA-256 is computed at once: each takes up to half a core."""

_THREADS = 8
"""For requests to the store that carry no audio."""

_MAX_DIGESTS = 1_000
"""Resumable uploads of which this process remembers how far their SHA-256 is."""

_CREATED_EPOCH = 1
"""That of a resumable upload to which nothing has been appended: its creation is the first."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Body:
    """What a request appends to a resumable upload."""

    n_bytes: int | None
    """As declared; None: unknown."""
    client: str
    """Whose share of the places for uploads it takes."""
    data: AsyncIterator[bytes]
    checksum: tuple[Digest, bytes] | None
    """A fresh digest and what it must be in the end."""


class Uploads:
    """All that is done with uploads; one for the whole process."""

    def __init__(self, intake: Intake, transfers: Transfers) -> None:
        self._intake = intake
        self._transfers = transfers
        self._threads = CapacityLimiter(_THREADS)
        self._verifying_threads = CapacityLimiter(_VERIFYING_THREADS)
        self._verifying: dict[UUID, asyncio.Task[Upload]] = {}
        self._digests: OrderedDict[UUID, tuple[int, int, Digest]] = OrderedDict()
        """Of resumable uploads: epoch, offset, and the SHA-256 of all bytes before that."""

    async def create(self, new: NewUpload, limits: Limits) -> Upload:
        """Begin an upload.

        Raises:
            TooManyOpenUploads: the tenant has as many as ``limits`` allow.
            StorageUnavailable, DatabaseUnavailable: it cannot be begun.
        """
        return await self._in_thread(self._transfers.create, new, limits)

    async def get(self, tenant: str, upload_id: UUID) -> Upload:
        """Return an upload, and go on with a verification that another process began.

        Raises:
            UploadNotFound: this tenant has no such upload (any more).
            DatabaseUnavailable: Postgres cannot be reached.
        """
        upload = await self._in_thread(self._transfers.get, tenant, upload_id)
        return await self.settled(upload, wait_s=0.0)

    async def complete(self, tenant: str, upload_id: UUID) -> Upload:
        """Make the file of an upload's parts; return it once it is verified, or after ``WAIT_S``.

        Raises:
            UploadNotFound: this tenant has no such upload (any more).
            UploadIncomplete: the object store lacks parts, or a tus client has not sent all.
            StorageUnavailable, DatabaseUnavailable: try again.
        """
        upload = await self._in_thread(self._transfers.get, tenant, upload_id)
        if upload.state is UploadState.OPEN:
            if upload.resumable:
                check_complete(upload)
            upload = await self._in_thread(self._transfers.finish, upload)
        return await self.settled(upload)

    async def ready(self, tenant: str, upload_id: UUID) -> Upload:
        """Return an upload of which a job can be made; waits for its SHA-256 if need be.

        Raises:
            UploadNotFound: this tenant has no such upload (any more).
            UploadIncomplete, DigestMismatch: no job can be made of it.
            StorageUnavailable, DatabaseUnavailable: try again.
        """
        upload = await self._in_thread(self._transfers.get, tenant, upload_id)
        return check_complete(await self.settled(upload))

    async def settled(self, upload: Upload, *, wait_s: float = WAIT_S) -> Upload:
        """Return the upload once its SHA-256 is known, or else as it is after ``wait_s``.

        Raises:
            UploadNotFound, StorageUnavailable, DatabaseUnavailable: it cannot be verified (now).
        """
        if upload.state is not UploadState.VERIFYING:
            return upload
        task = self._verifying.get(upload.id)
        if task is None:
            task = asyncio.create_task(self._verify(upload), name="verify")
            self._verifying[upload.id] = task
            task.add_done_callback(lambda _: self._verifying.pop(upload.id, None))
            task.add_done_callback(_heed)
        done, _ = await asyncio.wait({task}, timeout=wait_s)
        return task.result() if done else upload

    async def _verify(self, upload: Upload) -> Upload:
        return await to_thread.run_sync(
            self._transfers.verify, upload, limiter=self._verifying_threads
        )

    async def append(self, tenant: str, upload_id: UUID, offset: int, body: Body) -> Upload:
        """Append to a resumable upload; return it as it is then, complete if this was its end.

        Raises:
            UploadNotFound: this tenant has no such resumable upload (any more).
            OffsetMismatch: it ends elsewhere, or another append has begun meanwhile.
            UploadTooLarge: more came than it lacks.
            ChecksumMismatch: what came is not what the client says.
            TooManyUploads, TooManyAtOnce: no place is free.
            StorageUnavailable, DatabaseUnavailable: try again.
        """
        admission = self._intake.admission
        # A client that cannot have a place learns it before it sends anything.
        admission.check(body.n_bytes, tenant, body.client)
        upload = await self._in_thread(self._begin_append, tenant, upload_id, offset)
        if body.n_bytes is not None and offset + body.n_bytes > upload.size_bytes:
            raise UploadTooLarge(
                f"{body.n_bytes} bytes at {offset} are more than the {upload.size_bytes} of the "
                "whole upload"
            )
        first = await anext(body.data, b"")
        async with admission.turn(body.n_bytes, tenant, body.client):
            upload = await self._append(upload, first, body)
        return await self.settled(upload)

    def _begin_append(self, tenant: str, upload_id: UUID, offset: int) -> Upload:
        transfers = self._transfers
        upload = begin_append(transfers.engine, tenant, upload_id, offset, keep_s=transfers.keep_s)
        # Its creator died before the store knew of it.
        return upload if upload.multipart_id is not None else transfers.look(upload)[0]

    async def _append(self, upload: Upload, first: bytes, body: Body) -> Upload:
        async def data() -> AsyncIterator[bytes]:
            yield first
            async for piece in body.data:
                yield piece

        append = Append(
            self._transfers,
            upload,
            sha256=self._digest_of(upload),
            checksum=body.checksum,
            threads=self._intake.large_threads,
        )
        await append.append(data())
        if append.offset == upload.size_bytes:
            return await append.finish()
        if append.sha256 is not None:
            self._digests[upload.id] = upload.epoch, append.offset, append.sha256
            if len(self._digests) > _MAX_DIGESTS:
                self._digests.popitem(last=False)
        return await self._in_thread(self._transfers.get, upload.tenant, upload.id)

    def _digest_of(self, upload: Upload) -> Digest | None:
        """Return the SHA-256 of what an upload has, to be continued; None: it is not known.

        It is known if nobody else has begun to append since this process did. Otherwise the store
        may still receive a part of an append that was given up.
        """
        epoch, offset, digest = self._digests.pop(upload.id, (_CREATED_EPOCH, 0, new_sha256()))
        known = (epoch, offset) == (upload.epoch - 1, upload.offset_bytes)
        return digest if known else None

    async def part_urls(self, upload: Upload, numbers: Sequence[int], *, valid_s: int) -> list[str]:
        """Return where to send parts of an open upload, by their numbers."""
        return await self._in_thread(self._sign, upload, numbers, valid_s)

    def _sign(self, upload: Upload, numbers: Sequence[int], valid_s: int) -> list[str]:
        multipart_id = upload.multipart_id
        assert multipart_id is not None
        return [
            self._transfers.storage.presigned_part(
                upload.key,
                multipart_id,
                number,
                n_bytes=part_of(upload, number).n_bytes,
                valid_s=valid_s,
            )
            for number in numbers
        ]

    async def parts(self, tenant: str, upload_id: UUID) -> tuple[Upload, Mapping[int, StoredPart]]:
        """Return an upload and, while it is open, the parts that the store has, by number.

        Raises:
            UploadNotFound: this tenant has no such upload (any more).
            StorageUnavailable, DatabaseUnavailable: try again.
        """
        upload = await self._in_thread(self._transfers.get, tenant, upload_id)
        return await self._in_thread(self._transfers.look, upload)

    async def delete(self, tenant: str, upload_id: UUID) -> None:
        """Remove an upload; what a job needs of it stays as long as that.

        Raises:
            UploadNotFound: this tenant has no such upload (any more).
            DatabaseUnavailable: Postgres cannot be reached.
        """
        await self._in_thread(self._transfers.delete, tenant, upload_id)
        self._digests.pop(upload_id, None)
        self._intake.remover.ring()

    async def close(self) -> None:
        """End the verifications; others go on with them."""
        self._transfers.close()
        if self._verifying:
            await asyncio.wait(self._verifying.values())

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await to_thread.run_sync(work, *arguments, limiter=self._threads)


def _heed(task: asyncio.Task[Upload]) -> None:
    """Take a failure of a verification that nobody waits for: the next request tries again."""
    if not task.cancelled():
        task.exception()
