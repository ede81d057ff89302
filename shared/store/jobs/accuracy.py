"""Jobs measured against their references: at the moment they succeed wherever that is cheap."""

import time
from collections.abc import Iterable
from uuid import UUID

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import JobNotFound
from shared.speech.accuracy import Accuracy, measure
from shared.store.jobs.references import read_spoken

_CHEAP_CELLS = 2e10
"""Characters of reference times transcript, of two to three hours of speech: a tenth of a second
where they are alike, some two seconds where they have nothing in common."""

_AT_ONCE_S = 4.0
"""When to stop beginning new ones: a transaction that idles for 10 s is ended by Postgres."""


def measure_at_once(connection: Connection, job_ids: Iterable[UUID]) -> None:
    """Measure jobs that succeed in this transaction, so that none is seen without its error rates.

    The rows are locked by the caller. What takes too long within a transaction is left to
    ``measure_pending``.
    """
    began = time.monotonic()
    for job_id in job_ids:
        reference = _reference_of(connection, job_id)
        if reference is None:
            continue
        spoken = read_spoken(connection, job_id)
        if spoken is None:
            continue
        cheap = len(reference) * len(spoken.text) <= _CHEAP_CELLS
        if cheap and time.monotonic() - began < _AT_ONCE_S:
            accuracy = measure(reference, spoken.text, spoken.language)
            _set_accuracy(connection, job_id, reference, accuracy)


def measure_pending(engine: Engine, *, limit: int = 20) -> int:
    """Measure jobs that have succeeded but were not measured yet, the newest first.

    These are the ones with long texts, and what a process that died left of them. Returns how many
    were measured.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        pending = connection.execute(
            text("""
                SELECT id FROM jobs
                WHERE state = 'succeeded' AND reference IS NOT NULL AND accuracy IS NULL
                ORDER BY id DESC LIMIT :limit
            """),
            {"limit": limit},
        ).scalars()
        job_ids = list(pending)
    for job_id in job_ids:
        with begin(engine) as connection:
            reference = _reference_of(connection, job_id)
            spoken = read_spoken(connection, job_id)
        if reference is None or spoken is None:
            continue
        # Outside of any transaction: this can take a minute.
        accuracy = measure(reference, spoken.text, spoken.language)
        with begin(engine) as connection:
            _set_accuracy(connection, job_id, reference, accuracy)
    return len(job_ids)


def set_reference(
    engine: Engine, tenant: str, job_id: UUID, reference: str, accuracy: Accuracy
) -> None:
    """Give a job that succeeded a reference, in place of any it had, and what was measured.

    Raises:
        JobNotFound: there is no such job for this tenant, or its transcript is gone by now.
    """
    with begin(engine) as connection:
        found = connection.execute(
            text("""
                UPDATE jobs SET reference = :reference, accuracy = :accuracy
                WHERE id = :id AND tenant = :tenant AND transcript_id IS NOT NULL RETURNING id
            """),
            {
                "id": job_id,
                "tenant": tenant,
                "reference": reference,
                "accuracy": Jsonb(accuracy.model_dump()),
            },
        ).one_or_none()
    if found is None:
        raise JobNotFound(f"there is no job {job_id}")


def _reference_of(connection: Connection, job_id: UUID) -> str | None:
    found = connection.execute(text("SELECT reference FROM jobs WHERE id = :id"), {"id": job_id})
    reference: str | None = found.scalar_one_or_none()
    return reference


def _set_accuracy(connection: Connection, job_id: UUID, reference: str, accuracy: Accuracy) -> None:
    """Store what was measured, unless the job has got another reference since."""
    connection.execute(
        text("UPDATE jobs SET accuracy = :accuracy WHERE id = :id AND reference = :reference"),
        {"id": job_id, "reference": reference, "accuracy": Jsonb(accuracy.model_dump())},
    )
