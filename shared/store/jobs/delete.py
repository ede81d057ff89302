"""Jobs deleted, with all that is theirs."""

from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.store.expired_uploads import release_uploads
from shared.store.jobs.end import end_batch
from shared.store.jobs.equal import lock_with_equals, promote_a_copy
from shared.store.news import announce
from shared.store.objects.keys import job_prefix, listening_key
from shared.store.objects.removals import schedule_removal
from shared.store.states import ACTIVE_JOB_STATES
from shared.store.usage import count_unfinished
from shared.store.webhooks.endpoints import drop_unlisted, lock_unlisted


def delete_job(engine: Engine, tenant: str, job_id: UUID, *, max_attempts: int) -> None:
    """Job in any state -> nothing: its steps, events and webhook deliveries go with it.

    What an unfinished job has used is counted. Workers find their claims void. The oldest job that
    waits for this one is transcribed in its place. A transcript goes with the last job that has it,
    the endpoint of a URL with the last job that names it, and objects when the remover reaches
    them.

    Raises:
        JobNotFound: there is no such job for this tenant.
    """
    with begin(engine, tenant) as connection:
        if lock_with_equals(connection, tenant, job_id) in ACTIVE_JOB_STATES:
            count_unfinished(connection, job_id)
        erase_job(connection, job_id, max_attempts)


def erase_job(connection: Connection, job_id: UUID, max_attempts: int) -> None:
    """Delete a job; the caller holds the locks on its equals and its row."""
    promote_a_copy(connection, job_id, max_attempts)
    release_uploads(connection, [job_id], at_once=True)
    endpoint_id = lock_unlisted(connection, job_id)
    deleted = connection.execute(
        text("""
            DELETE FROM jobs WHERE id = :id
            RETURNING transcript_id, batch_id, EXISTS (
                SELECT FROM steps WHERE job_id = jobs.id AND kind = 'listen'
            ) AS may_have_copy
        """),
        {"id": job_id},
    ).one()
    drop_transcript(connection, deleted.transcript_id)
    if deleted.batch_id is not None:
        end_batch(connection, deleted.batch_id)
    if endpoint_id is not None:
        drop_unlisted(connection, endpoint_id)
    schedule_removal(connection, job_prefix(job_id), late_writes=True)
    if deleted.may_have_copy:
        schedule_removal(connection, listening_key(job_id), late_writes=True)
    announce(connection, job_id)


def drop_transcript(connection: Connection, transcript_id: UUID | None) -> None:
    """Delete a transcript that no job has any more; the caller holds the lock on equal jobs."""
    connection.execute(
        text("""
            DELETE FROM transcripts
            WHERE id = :id AND NOT EXISTS (SELECT FROM jobs WHERE transcript_id = :id)
        """),
        {"id": transcript_id},
    )
