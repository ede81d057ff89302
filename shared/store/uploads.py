"""Uploads: files that come in before their jobs do, in parts.

An upload's object has a key of its own (``upload_key``). Jobs that are made of it have that key as
their source, so nothing is copied and an upload may be used any number of times. It is ``held``
while a job needs its object: its audio goes with that of the last of them. An upload that no job
uses is removed when it expires.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, RowMapping, text

from shared.infra.database import begin, read, single
from shared.infra.errors import (
    DigestMismatch,
    OffsetMismatch,
    TooManyOpenUploads,
    UploadIncomplete,
    UploadNotFound,
)
from shared.store.limits import Limits
from shared.store.objects.keys import upload_key, upload_prefix
from shared.store.objects.removals import schedule_removal
from shared.store.states import UploadState

OPEN_RETRY_S = 60.0
"""How soon to try again after ``TooManyOpenUploads``."""


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload to be created."""

    id: UUID
    tenant: str
    name: str
    size_bytes: int
    sha256: str | None
    """Hex digest, as declared."""
    resumable: bool
    """Whether it comes by tus, through the API; else the client sends parts to the store."""
    metadata: str | None = None
    """What a tus client said of it, unparsed."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as it is now."""

    id: UUID
    tenant: str
    state: UploadState
    name: str
    size_bytes: int
    sha256: str | None
    """Hex digest: as declared; once the upload is complete, as found."""
    resumable: bool
    offset_bytes: int
    """Of a resumable one: how much is stored for good."""
    epoch: int
    multipart_id: str | None
    metadata: str | None
    held: bool
    created_at: datetime
    expires_at: datetime

    @property
    def key(self) -> str:
        """The key of its object, once it is whole."""
        return upload_key(self.id)


_COLUMNS = """
    id, tenant, state, name, size_bytes, sha256, resumable, offset_bytes, epoch, multipart_id,
    metadata, held, created_at, expires_at
"""
_LIVES = "(expires_at > clock_timestamp() OR held AND expires_at <> '-infinity')"
"""An upload that was deleted expired long ago (``-infinity``), though a job may hold it still."""
_LATER = "clock_timestamp() + make_interval(secs => :keep_s)"


def create_upload(engine: Engine, new: NewUpload, limits: Limits, *, keep_s: float) -> Upload:
    """Nothing -> open, before anything of it is stored.

    Raises:
        TooManyOpenUploads: the tenant has as many as ``limits`` allow.
    """
    with begin(engine, new.tenant) as connection:
        _check_room(connection, new.tenant, limits.max_open_uploads)
        created = connection.execute(
            text(f"""
                INSERT INTO uploads (id, tenant, state, name, size_bytes, sha256, resumable,
                                     metadata, expires_at)
                VALUES (:id, :tenant, 'open', :name, :size_bytes, :sha256, :resumable, :metadata,
                        {_LATER})
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - constants
            {
                "id": new.id,
                "tenant": new.tenant,
                "name": new.name,
                "size_bytes": new.size_bytes,
                "sha256": new.sha256,
                "resumable": new.resumable,
                "metadata": new.metadata,
                "keep_s": keep_s,
            },
        )
        return _upload(created.mappings().one())


def add_complete(engine: Engine, new: NewUpload, *, keep_s: float) -> Upload:
    """Nothing -> complete: the store has the whole object, which has the digest of ``new``.

    The removal that ``begin_upload`` has noted for it is void.
    """
    assert new.sha256 is not None
    with begin(engine, new.tenant) as connection:
        added = connection.execute(
            text(f"""
                INSERT INTO uploads (id, tenant, state, name, size_bytes, sha256, resumable,
                                     offset_bytes, expires_at)
                VALUES (:id, :tenant, 'complete', :name, :size_bytes, :sha256, false, :size_bytes,
                        {_LATER})
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - constants
            {
                "id": new.id,
                "tenant": new.tenant,
                "name": new.name,
                "size_bytes": new.size_bytes,
                "sha256": new.sha256,
                "keep_s": keep_s,
            },
        )
        upload = _upload(added.mappings().one())
        connection.execute(
            text("DELETE FROM removals WHERE prefix = :key"), {"key": upload_key(new.id)}
        )
    return upload


def _check_room(connection: Connection, tenant: str, most: int) -> None:
    if not most:
        return
    # A statement of its own: the count must see all that was committed before the lock was free.
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, 3))"), {"tenant": tenant}
    )
    n_open = connection.execute(
        text(f"""
            SELECT count(*) FROM uploads
            WHERE tenant = :tenant AND state = 'open' AND {_LIVES}
        """),  # noqa: S608 - constants
        {"tenant": tenant},
    ).scalar_one()
    if n_open >= most:
        raise TooManyOpenUploads(
            f"{n_open} uploads of yours lack bytes, and {most} may: complete or delete some",
            OPEN_RETRY_S,
        )


def get_upload(engine: Engine, tenant: str, upload_id: UUID) -> Upload:
    """Return an upload.

    Raises:
        UploadNotFound: this tenant has no such upload (any more).
    """
    with read(engine, tenant) as connection:
        return _get(connection, tenant, upload_id)


def take(connection: Connection, tenant: str, upload_id: UUID) -> Upload:
    """Complete -> held, as the caller's transaction creates a job of it, or changed no further.

    The row is locked until the commit, so nobody removes the upload meanwhile.

    Raises:
        UploadNotFound: this tenant has no such upload (any more).
        UploadIncomplete, DigestMismatch: no job can be made of it.
    """
    taken = connection.execute(
        text(f"""
            UPDATE uploads SET held = true
            WHERE id = :id AND tenant = :tenant AND state = 'complete' AND {_LIVES}
            RETURNING {_COLUMNS}
        """),  # noqa: S608 - constants
        {"id": upload_id, "tenant": tenant},
    )
    if (row := taken.mappings().one_or_none()) is not None:
        return _upload(row)
    return check_complete(_get(connection, tenant, upload_id))


def check_complete(upload: Upload) -> Upload:
    """Return the upload, of which a job can be made.

    Raises:
        UploadIncomplete: it lacks bytes, or its SHA-256 is not known yet.
        DigestMismatch: it failed.
    """
    match upload.state:
        case UploadState.FAILED:
            raise DigestMismatch(
                f"the SHA-256 of upload {upload.id} is not the one that was declared"
            )
        case UploadState.OPEN:
            raise UploadIncomplete(
                f"upload {upload.id} is not complete", upload.state, upload.offset_bytes
            )
        case UploadState.VERIFYING:
            raise UploadIncomplete(
                f"the SHA-256 of upload {upload.id} is being computed: try again in a moment",
                upload.state,
                upload.size_bytes,
            )
    return upload


def replace_multipart(
    engine: Engine, upload: Upload, multipart_id: str, *, keep_s: float
) -> Upload:
    """Open -> open with this multipart upload of the store, nothing of which is sent.

    Returns the upload as it is then; unchanged if another request has begun it anew, or appends.

    Raises:
        UploadNotFound: it was removed meanwhile.
    """
    changed = _change(
        engine,
        upload,
        f"multipart_id = :multipart_id, offset_bytes = 0, epoch = epoch + 1, expires_at = {_LATER}",
        "state = 'open' AND multipart_id IS NOT DISTINCT FROM :before AND epoch = :epoch",
        multipart_id=multipart_id,
        before=upload.multipart_id,
        epoch=upload.epoch,
        keep_s=keep_s,
    )
    return changed or get_upload(engine, upload.tenant, upload.id)


def touch_upload(engine: Engine, upload: Upload, *, keep_s: float) -> Upload:
    """Open -> open, to be removed ``keep_s`` from now; other states do not change.

    Raises:
        UploadNotFound: it was removed meanwhile.
    """
    touched = _change(
        engine, upload, f"expires_at = {_LATER}", f"state = 'open' AND {_LIVES}", keep_s=keep_s
    )
    return touched or get_upload(engine, upload.tenant, upload.id)


def begin_append(
    engine: Engine, tenant: str, upload_id: UUID, offset: int, *, keep_s: float
) -> Upload:
    """Open -> open with the next epoch: the caller appends at ``offset``, and nobody else does.

    Raises:
        UploadNotFound: this tenant has no such resumable upload (any more).
        OffsetMismatch: it ends elsewhere, or is not open.
    """
    with single(engine, tenant) as connection:
        begun = connection.execute(
            text(f"""
                UPDATE uploads SET epoch = epoch + 1, expires_at = {_LATER}
                WHERE id = :id AND tenant = :tenant AND resumable AND state = 'open' AND {_LIVES}
                  AND offset_bytes = :offset
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - constants
            {"id": upload_id, "tenant": tenant, "offset": offset, "keep_s": keep_s},
        )
        if (row := begun.mappings().one_or_none()) is not None:
            return _upload(row)
        found = _get(connection, tenant, upload_id)
    if not found.resumable:
        raise UploadNotFound(f"there is no upload {upload_id}")
    raise OffsetMismatch(f"the upload ends at {found.offset_bytes}, not at {offset}")


def commit_append(engine: Engine, upload: Upload, offset: int, *, keep_s: float) -> None:
    """Open -> open with everything before ``offset`` stored for good, in this epoch only.

    Raises:
        OffsetMismatch: another PATCH has begun, or the upload was removed.
    """
    changed = _change(
        engine,
        upload,
        f"offset_bytes = :offset, expires_at = {_LATER}",
        "state = 'open' AND epoch = :epoch",
        offset=offset,
        epoch=upload.epoch,
        keep_s=keep_s,
    )
    if changed is None:
        raise OffsetMismatch("another PATCH has gone on with this upload, or it was deleted")


def finish_upload(engine: Engine, upload: Upload, *, keep_s: float) -> Upload:
    """Open -> verifying: the store has the whole object; other states do not change.

    Raises:
        UploadNotFound: it was removed meanwhile.
    """
    changed = _change(
        engine,
        upload,
        f"state = 'verifying', offset_bytes = size_bytes, expires_at = {_LATER}",
        "state = 'open'",
        keep_s=keep_s,
    )
    return changed or get_upload(engine, upload.tenant, upload.id)


def note_digest(engine: Engine, upload: Upload, sha256: str, *, keep_s: float) -> Upload:
    """Verifying -> complete; or failed, and its object due, if another digest was declared.

    Other states do not change.

    Raises:
        UploadNotFound: it was removed meanwhile.
    """
    with begin(engine, upload.tenant) as connection:
        ended = connection.execute(
            text(f"""
                UPDATE uploads
                SET state = CASE WHEN coalesce(sha256, :sha256) = :sha256
                                 THEN 'complete' ELSE 'failed' END,
                    sha256 = coalesce(sha256, :sha256), expires_at = {_LATER}
                WHERE id = :id AND tenant = :tenant AND state = 'verifying'
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - constants
            {"id": upload.id, "tenant": upload.tenant, "sha256": sha256, "keep_s": keep_s},
        )
        if (row := ended.mappings().one_or_none()) is None:
            return _get(connection, upload.tenant, upload.id)
        found = _upload(row)
        if found.state is UploadState.FAILED:
            schedule_removal(connection, upload_prefix(upload.id), late_writes=False)
        return found


def delete_upload(engine: Engine, tenant: str, upload_id: UUID) -> Upload:
    """Any state -> expired: nobody finds it any more. Returns what it was.

    Its object stays while a job needs it (``shared.store.expired_uploads``).

    Raises:
        UploadNotFound: this tenant has no such upload (any more).
    """
    with begin(engine, tenant) as connection:
        found = _get(connection, tenant, upload_id)
        connection.execute(
            text("UPDATE uploads SET expires_at = '-infinity' WHERE id = :id"), {"id": upload_id}
        )
    return found


def _get(connection: Connection, tenant: str, upload_id: UUID) -> Upload:
    found = connection.execute(
        text(f"SELECT {_COLUMNS} FROM uploads WHERE id = :id AND tenant = :tenant AND {_LIVES}"),  # noqa: S608
        {"id": upload_id, "tenant": tenant},
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise UploadNotFound(f"there is no upload {upload_id}")
    return _upload(row)


def _change(
    engine: Engine, upload: Upload, change: str, condition: str, **parameters: object
) -> Upload | None:
    with single(engine, upload.tenant) as connection:
        changed = connection.execute(
            text(f"""
                UPDATE uploads SET {change}
                WHERE id = :id AND tenant = :tenant AND {condition}
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - constants
            {"id": upload.id, "tenant": upload.tenant, **parameters},
        )
        row = changed.mappings().one_or_none()
    return None if row is None else _upload(row)


def _upload(row: RowMapping) -> Upload:
    return Upload(**{**row, "state": UploadState(row["state"])})
