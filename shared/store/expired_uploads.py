"""Uploads on their way out: released by jobs, expired, or known to the object store alone."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import EVERY_TENANT, begin, read
from shared.infra.storage import Storage
from shared.store.objects.keys import upload_key, upload_prefix
from shared.store.objects.removals import schedule_removal
from shared.store.states import UploadState


def release_uploads(connection: Connection, job_ids: Sequence[UUID], *, at_once: bool) -> None:
    """Uploads of jobs that have no use for their audio any more: held -> not held.

    Uploads that another job needs do not change. With ``at_once`` the others are removed now, else
    when they expire. The caller has locked the jobs.
    """
    locked = connection.execute(
        # A statement of its own: the next one sees jobs that were made before the lock was free.
        text("""
            SELECT id FROM uploads
            WHERE id IN (SELECT upload_id FROM jobs WHERE id = ANY (:job_ids))
            ORDER BY id FOR UPDATE
        """),
        {"job_ids": list(job_ids)},
    ).scalars()
    if not (upload_ids := list(locked)):
        return
    released = connection.execute(
        text("""
            UPDATE uploads
            SET held = false,
                expires_at = CASE WHEN :at_once THEN '-infinity' ELSE expires_at END
            WHERE id = ANY (:upload_ids) AND NOT EXISTS (
                SELECT FROM jobs
                WHERE upload_id = uploads.id AND audio_deleted_at IS NULL AND id <> ALL (:job_ids)
            )
            RETURNING id
        """),
        {"upload_ids": upload_ids, "job_ids": list(job_ids), "at_once": at_once},
    ).scalars()
    for upload_id in released.all():
        if at_once:
            _drop(connection, upload_id)


def remove_expired(
    engine: Engine, storage: Storage, *, limit: int, upload_id: UUID | None = None
) -> int:
    """Expired -> nothing, and its objects due; or only the upload named. Returns how many.

    The store is told to forget parts first: not every store lists them.

    Raises:
        StorageUnavailable: it cannot be told.
    """
    with read(engine, EVERY_TENANT) as connection:
        found = connection.execute(
            text("""
                SELECT id, state, multipart_id FROM uploads
                WHERE NOT held AND expires_at <= now() AND id = coalesce(CAST(:id AS uuid), id)
                ORDER BY expires_at LIMIT :limit
            """),
            {"id": upload_id, "limit": limit},
        ).all()
    for each in found:
        if each.state == UploadState.OPEN and each.multipart_id is not None:
            storage.upload(upload_key(each.id), each.multipart_id).abort()
        with begin(engine, EVERY_TENANT) as connection:
            _drop(connection, each.id)
    return len(found)


def remove_unknown(engine: Engine, storage: Storage, *, prefix: str, older_than: datetime) -> int:
    """Abort multipart uploads of the store that no upload has; return how many.

    A database that was restored from an earlier state leaves some. Younger ones may be about to be
    noted.

    Raises:
        StorageUnavailable: the store failed.
    """
    begun = [each for each in storage.begun_uploads(prefix) if each.begun_at < older_than]
    if not begun:
        return 0
    with read(engine, EVERY_TENANT) as connection:
        known = set(
            connection.execute(
                text("SELECT multipart_id FROM uploads WHERE multipart_id = ANY (:ids)"),
                {"ids": [each.upload_id for each in begun]},
            ).scalars()
        )
    unknown = [each for each in begun if each.upload_id not in known]
    for each in unknown:
        storage.upload(each.key, each.upload_id).abort()
    return len(unknown)


def _drop(connection: Connection, upload_id: UUID) -> None:
    dropped = connection.execute(
        text("""
            DELETE FROM uploads
            WHERE id = :id AND NOT held AND expires_at <= clock_timestamp() RETURNING id
        """),
        {"id": upload_id},
    )
    if dropped.one_or_none() is not None:
        # A PATCH may be writing still.
        schedule_removal(connection, upload_prefix(upload_id), late_writes=True)
