"""What an upload needs of the object store and the database together. Blocking, without HTTP."""

import hashlib
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from shared.infra.errors import (
    DatabaseUnavailable,
    StorageUnavailable,
    UploadIncomplete,
    UploadNotFound,
)
from shared.infra.storage import MAX_PARTS, PART_BYTES, Storage, StoredPart
from shared.infra.storage import Upload as Multipart
from shared.store.expired_uploads import remove_expired
from shared.store.limits import Limits
from shared.store.objects.keys import tail_key
from shared.store.states import UploadState
from shared.store.uploads import (
    NewUpload,
    Upload,
    commit_append,
    create_upload,
    delete_upload,
    finish_upload,
    get_upload,
    note_digest,
    replace_multipart,
    touch_upload,
)

log = logging.getLogger(__name__)

DIRECT_PART_BYTES = 64 * 1024**2
"""Size of the parts that clients send to the store themselves: what a broken connection costs. An
hour of MP3 is one part."""

MAX_DIRECT_BYTES = MAX_PARTS * DIRECT_PART_BYTES
MAX_RESUMABLE_BYTES = MAX_PARTS * PART_BYTES


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an upload."""

    number: int
    """From 1."""
    n_bytes: int


def n_parts(upload: Upload) -> int:
    """Return how many parts an upload has."""
    return -(-upload.size_bytes // _part_bytes(upload))


def part_of(upload: Upload, number: int) -> Part:
    """Return a part of an upload; all but the last have the same length."""
    full = _part_bytes(upload)
    return Part(number, min(full, upload.size_bytes - (number - 1) * full))


def _part_bytes(upload: Upload) -> int:
    return PART_BYTES if upload.resumable else DIRECT_PART_BYTES


class Transfers:
    """Creates, completes and removes uploads; one for the whole process.

    All methods raise ``StorageUnavailable`` and ``DatabaseUnavailable``, and ``UploadNotFound`` if
    the upload was removed meanwhile.
    """

    def __init__(self, engine: Engine, storage: Storage, *, keep_s: float) -> None:
        """``keep_s``: how long an upload is kept after it was last added to."""
        self.engine = engine
        self.storage = storage
        self.keep_s = keep_s
        self._stopping = threading.Event()

    def close(self) -> None:
        """End the computation of digests."""
        self._stopping.set()

    def create(self, new: NewUpload, limits: Limits) -> Upload:
        """Begin an upload; nothing of it stays if the store cannot begin it.

        Raises:
            TooManyOpenUploads: the tenant has as many as ``limits`` allow.
        """
        upload = create_upload(self.engine, new, limits, keep_s=self.keep_s)
        try:
            return self.begin_anew(upload)
        except StorageUnavailable:
            with suppress(DatabaseUnavailable):
                self.delete(upload.tenant, upload.id)
            raise

    def multipart(self, upload: Upload) -> Multipart:
        """Return the multipart upload in which the parts of an open upload are."""
        assert upload.multipart_id is not None
        return self.storage.upload(upload.key, upload.multipart_id)

    def look(self, upload: Upload) -> tuple[Upload, Mapping[int, StoredPart]]:
        """Return an upload as it is, and the parts that the store has while it is open.

        An upload whose parts the store has lost begins anew. rclone loses them when it is
        restarted.
        """
        if upload.state is not UploadState.OPEN:
            return upload, {}
        if upload.multipart_id is not None:
            parts = self.multipart(upload).parts()
            if parts is not None:
                return touch_upload(self.engine, upload, keep_s=self.keep_s), parts
            if self.storage.size(upload.key) == upload.size_bytes:
                # Whoever completed the object died before it could say so.
                return finish_upload(self.engine, upload, keep_s=self.keep_s), {}
            log.warning(
                "the object store has lost the parts of upload %s: it begins anew", upload.id
            )
        return self.begin_anew(upload), {}

    def begin_anew(self, upload: Upload) -> Upload:
        """Begin an open upload with nothing of it stored, in place of what the store has of it."""
        multipart = self.storage.start_upload(upload.key)
        try:
            begun = replace_multipart(self.engine, upload, multipart.upload_id, keep_s=self.keep_s)
        except UploadNotFound:
            multipart.abort()
            raise
        if begun.multipart_id != multipart.upload_id:  # another request was faster
            multipart.abort()
        elif upload.multipart_id is not None:
            self.multipart(upload).abort()
        return begun

    def finish(self, upload: Upload) -> Upload:
        """Make the object of an open upload's parts; other states do not change.

        Raises:
            UploadIncomplete: the store lacks parts, or has one of another length.
        """
        upload, parts = self.look(upload)
        if upload.state is not UploadState.OPEN:
            return upload
        expected = {n: part_of(upload, n).n_bytes for n in range(1, n_parts(upload) + 1)}
        found = {number: part.n_bytes for number, part in parts.items()}
        if found != expected:
            n_stored = sum(found.values())
            raise UploadIncomplete(
                f"the object store has {n_stored} of the {upload.size_bytes} bytes of upload "
                f"{upload.id}, in {len(found)} of {len(expected)} parts",
                upload.state,
                n_stored,
            )
        self.multipart(upload).finish(parts)
        return finish_upload(self.engine, upload, keep_s=self.keep_s)

    def verify(self, upload: Upload) -> Upload:
        """Compute the SHA-256 of an upload that is whole, reading it once."""
        digest = hashlib.sha256()
        n_read = 0
        for block in self.storage.stream(upload.key):
            if self._stopping.is_set():
                raise StorageUnavailable("this process stops: the upload is verified elsewhere")
            digest.update(block)
            n_read += len(block)
        if n_read != upload.size_bytes:
            raise StorageUnavailable("the object store did not keep the whole file")
        return self.note(upload, digest.hexdigest())

    def note(self, upload: Upload, sha256: str) -> Upload:
        """Note the digest of a whole upload, which is complete then, or has failed."""
        return note_digest(self.engine, upload, sha256, keep_s=self.keep_s)

    def read_tail(self, upload: Upload) -> bytes:
        """Return what a resumable upload has after its last full part."""
        n_bytes = upload.offset_bytes % PART_BYTES
        tail = self.storage.read(tail_key(upload.id, upload.offset_bytes), 0, n_bytes)
        if len(tail) != n_bytes:
            raise StorageUnavailable("the object store did not keep the end of an upload")
        return tail

    def keep_tail(self, upload: Upload, offset: int, tail: bytes) -> None:
        """Store what a resumable upload has after its last full part, and commit its ``offset``.

        Raises:
            OffsetMismatch: another PATCH has begun.
        """
        if tail:
            self.storage.put(tail_key(upload.id, offset), tail)
        self.commit(upload, offset)

    def commit(self, upload: Upload, offset: int) -> None:
        """Commit the ``offset`` of a resumable upload, of which the store has all before it.

        Raises:
            OffsetMismatch: another PATCH has begun.
        """
        commit_append(self.engine, upload, offset, keep_s=self.keep_s)

    def drop_tail(self, upload: Upload) -> None:
        """Delete the tail with which an append began. If that fails, it goes with the upload."""
        with suppress(StorageUnavailable):
            self.storage.delete([tail_key(upload.id, upload.offset_bytes)])

    def get(self, tenant: str, upload_id: UUID) -> Upload:
        """Return an upload."""
        return get_upload(self.engine, tenant, upload_id)

    def delete(self, tenant: str, upload_id: UUID) -> None:
        """Forget an upload; its object goes at once, unless a job needs it."""
        delete_upload(self.engine, tenant, upload_id)
        try:
            remove_expired(self.engine, self.storage, limit=1, upload_id=upload_id)
        except StorageUnavailable as error:
            log.warning("%s: upload %s is removed later", error, upload_id)


def max_bytes(limits: Limits, most: int) -> int:
    """Return the largest file that a tenant may send in a way that takes ``most``."""
    return min(limits.max_upload_bytes or most, most)
