"""The ``fetch`` step: how far it is, and what follows from its end."""

from dataclasses import dataclass

from psycopg.types.json import Jsonb
from sqlalchemy import Engine, text

from shared.infra.database import begin, single
from shared.store.events import record
from shared.store.jobs.accuracy import measure_at_once
from shared.store.jobs.equal import find_original, raise_priority, share_transcript
from shared.store.news import announce
from shared.store.steps.claims import Claim, fence
from shared.store.steps.completion import finish_step
from shared.store.successors import insert_prepare


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched and stored."""

    key: str
    name: str
    n_bytes: int
    sha256: str
    """Hex digest."""


def note_fetched(engine: Engine, claim: Claim, n_bytes: int, total_bytes: int | None) -> None:
    """Have the job show how much of its file has come, unless the claim is void.

    ``total_bytes`` is what the file's server says, if it does.
    """
    with single(engine) as connection:
        connection.execute(
            text("""
                UPDATE jobs SET fetched_bytes = :n_bytes, fetch_total_bytes = :total_bytes
                FROM steps
                WHERE jobs.id = :job_id AND steps.id = :step_id AND steps.epoch = :epoch
                  AND steps.state = 'running'
            """),
            {
                "n_bytes": n_bytes,
                "total_bytes": total_bytes,
                "job_id": claim.job_id,
                "step_id": claim.step_id,
                "epoch": claim.epoch,
            },
        )


def complete_fetch(
    engine: Engine,
    claim: Claim,
    fetched: Fetched,
    *,
    fingerprint: str | None,
    fetch_s: float,
    max_attempts: int,
) -> bool:
    """``fetch`` running -> done, and the job's ``prepare`` step queued.

    If an equal job has succeeded, the job succeeds with its transcript instead; if one is under
    way, the job is queued again without a step, to end as that one ends. The URL is forgotten.

    Returns whether the job has got a transcript, so that its file is not needed.
    """
    with begin(engine) as connection:
        # An original is locked before its copies.
        original = find_original(connection, claim.tenant, fingerprint)
        fence(connection, claim)
        metrics = {"fetch_s": round(fetch_s, 3)}
        finish_step(connection, claim, metrics)
        connection.execute(
            text("UPDATE steps SET input = '{}' WHERE id = :id"), {"id": claim.step_id}
        )
        priority = connection.execute(
            text("""
                UPDATE jobs
                SET source_key = :key, source_name = :name, source_bytes = :n_bytes,
                    sha256 = :sha256, fetched_bytes = :n_bytes, fetch_total_bytes = :n_bytes,
                    fingerprint = :fingerprint, original_id = CAST(:original AS uuid),
                    state = CASE WHEN CAST(:original AS uuid) IS NULL THEN state ELSE 'queued' END,
                    metrics = metrics || :metrics
                WHERE id = :id RETURNING priority
            """),
            {
                "id": claim.job_id,
                "key": fetched.key,
                "name": fetched.name,
                "n_bytes": fetched.n_bytes,
                "sha256": fetched.sha256,
                "fingerprint": fingerprint,
                "original": original,
                "metrics": Jsonb(metrics),
            },
        ).scalar_one()
        announce(connection, claim.job_id)
        if original is None:
            insert_prepare(connection, claim.job_id, fetched.n_bytes, max_attempts)
            return False
        raise_priority(connection, original, priority)
        shared = share_transcript(connection, original)
        measure_at_once(connection, shared)
        if claim.job_id not in shared:
            record(connection, claim.job_id, "job.queued")
        return bool(shared)
