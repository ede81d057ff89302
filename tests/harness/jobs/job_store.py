"""The vocabulary in which tests talk about jobs and steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from harness.programs.workers import wait_until
from shared.infra.errors import LeaseLost
from shared.infra.storage import Storage
from shared.models.options import ResolvedOptions
from shared.speech.chunks.hypothesis import Hypothesis, hypothesis_to_json
from shared.speech.transcript.manifest import Decoding, Manifest, ManifestChunk
from shared.speech.transcript.transcript import (
    Paragraph,
    Segment,
    Transcript,
    TranscriptHeader,
    Word,
)
from shared.store import steps
from shared.store.jobs.batches import NewBatch, create_batch
from shared.store.jobs.create import NewJob, Remote, create_job
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import source_key
from shared.store.steps import ChunkResult, Claim, Folded, NewStep

CHUNK = {"core_start": 0, "core_end": 16_000, "stride_left": 0, "stride_right": 0}
ORACLE = ResolvedOptions(model="oracle", vad="off")
TRANSCRIPT = Transcript(
    text="hello",
    language="en",
    duration_s=1.0,
    speech_s=1.0,
    skipped_s=0.0,
    paragraphs=[Paragraph(start=0.0, end=0.5, text="hello", first_segment=0, last_segment=0)],
    segments=[
        Segment(
            id=0,
            start=0.0,
            end=0.5,
            text="hello",
            language="en",
            words=[Word(text="hello", start=0.0, end=0.5)],
        )
    ],
)

MANIFEST = Manifest(
    model="oracle",
    revision="1",
    weights=["sha256:" + 64 * "0"],
    engines=["oracle 1"],
    devices=["cpu float64"],
    decode=Decoding(beam_size=1, language=None, task="transcribe", prompt=None, hotwords=None),
    vad="off",
    window_s=30.0,
    sample_rate=16_000,
    chunks=[ManifestChunk(idx=0, channel=None, **CHUNK)],
)


def new_job(job_id: UUID | None = None, **fields: object) -> NewJob:
    """Return a job to be created, of which these fields are given."""
    job_id = job_id or uuid7()
    usual: dict[str, object] = {
        "tenant": "default",
        "options": ORACLE,
        "source_key": source_key(job_id),
        "source_name": "a.wav",
        "source_bytes": 1,
        "sha256": "0" * 64,
    }
    return NewJob(id=job_id, **usual | fields)  # type: ignore[arg-type]


def add_job(
    database: Engine,
    *,
    tenant: str = "default",
    max_attempts: int = 3,
    options: ResolvedOptions = ORACLE,
    source_bytes: int = 1,
) -> UUID:
    job = new_job(tenant=tenant, options=options, source_bytes=source_bytes)
    create_job(database, job, max_attempts=max_attempts)
    return job.id


def add_remote_job(
    database: Engine, url: str, *, cache: bool = True, tenant: str = "default"
) -> UUID:
    """Add a job whose file is at a URL."""
    remote = Remote(url, cache)
    job = new_job(source_bytes=None, sha256=None, remote=remote, tenant=tenant)
    create_job(database, job, max_attempts=3)
    return job.id


def add_batch(database: Engine, n_jobs: int, *, tenant: str = "default") -> UUID:
    """Add a batch of jobs whose files are at URLs; return its id."""
    remote = Remote("https://files.example/a.mp3", cache=True)
    batch_id = uuid7()
    jobs = [
        new_job(source_bytes=None, sha256=None, remote=remote, tenant=tenant, batch_id=batch_id)
        for _ in range(n_jobs)
    ]
    batch = NewBatch(batch_id, tenant, jobs, None, "")
    create_batch(
        database, batch, max_attempts=3, limits=NO_LIMITS, within=lambda _connection, _made: None
    )
    return batch_id


def add_stored_job(
    database: Engine, storage: Storage, source: bytes, *, options: ResolvedOptions = ORACLE
) -> UUID:
    """Add a job whose file is in the object store."""
    job_id = add_job(database, options=options, source_bytes=len(source))
    storage.put(source_key(job_id), source)
    return job_id


def step_ids(database: Engine, job_id: UUID, kind: str) -> list[int]:
    with database.begin() as connection:
        return list(
            connection.execute(
                text("SELECT id FROM steps WHERE job_id = :id AND kind = :kind ORDER BY idx"),
                {"id": job_id, "kind": kind},
            ).scalars()
        )


def claim_step(
    database: Engine, step_id: int, *, owner: str = "test", lease_s: float = 30
) -> Claim | None:
    """Claim a step as if it were its turn; None where it cannot be claimed."""
    with database.begin() as connection:
        step = connection.execute(
            text("""
                UPDATE steps
                SET tenant_turn = -1, job_turn = -1, rank = -2147483648,
                    -- A lane has no other order.
                    run_at = CASE WHEN lane IS NULL THEN run_at ELSE run_at - interval '1 day' END
                WHERE id = :id AND state = 'queued' AND run_at <= clock_timestamp()
                RETURNING queue
            """),
            {"id": step_id},
        ).one_or_none()
    if step is None:
        return None
    claimed = steps.claim_next(database, step.queue, owner=owner, lease_s=lease_s).claims
    return claimed[0] if claimed and claimed[0].step_id == step_id else None


def claim(database: Engine, job_id: UUID, kind: str, idx: int = 0, lease_s: float = 30) -> Claim:
    claimed = claim_step(database, step_ids(database, job_id, kind)[idx], lease_s=lease_s)
    assert claimed is not None
    return claimed


def column(database: Engine, step_id: int, name: str) -> object:
    with database.begin() as connection:
        return connection.execute(
            text(f"SELECT {name} FROM steps WHERE id = :id"), {"id": step_id}
        ).scalar_one()


def prepare(database: Engine, job_id: UUID, chunks: int) -> None:
    claimed = claim(database, job_id, "prepare")
    steps.add_chunks(
        database, claimed, [NewStep(idx, CHUNK) for idx in range(chunks)], max_attempts=3
    )
    steps.complete_prepare(database, claimed, duration_s=2.0, metrics={}, max_attempts=3)


def transcribe(database: Engine, claimed: Claim, *, max_attempts: int = 3) -> None:
    heard_nothing = hypothesis_to_json(Hypothesis(words=()))
    result = ChunkResult(claimed, heard_nothing, {}, audio_s=1.0)
    if steps.complete_chunks(database, [result], max_attempts=max_attempts):
        raise LeaseLost(f"step {claimed.step_id}")


def finish(
    database: Engine, claimed: Claim, transcript: Transcript = TRANSCRIPT, **metrics: object
) -> None:
    steps.complete_finish(database, claimed, folded(transcript, **metrics))


def folded(transcript: Transcript = TRANSCRIPT, **metrics: object) -> Folded:
    return Folded(
        segments=transcript.segments,
        header=lambda: TranscriptHeader.model_validate(
            transcript.model_dump(include=set(TranscriptHeader.model_fields))
        ),
        metrics=lambda: metrics,
        manifest=lambda: MANIFEST,
    )


def expire(database: Engine, claimed: Claim) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE steps SET lease_until = now() - interval '1 s' WHERE id = :id"),
            {"id": claimed.step_id},
        )


def end_leases(database: Engine, step_ids: Sequence[int]) -> None:
    """Have the leases of a worker that is gone run out, until somebody else has reaped them.

    Once would not do: a renewal of the worker's may still be on its way to Postgres.
    """
    held = {"ids": [*step_ids], "epochs": [column(database, each, "epoch") for each in step_ids]}

    def are_reaped() -> bool:
        with database.begin() as connection:
            expired = connection.execute(
                text("""
                    UPDATE steps SET lease_until = now() - interval '1 s'
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS int[])) AS held (id, epoch)
                    WHERE steps.id = held.id AND steps.epoch = held.epoch AND state = 'running'
                """),
                held,
            )
            return expired.rowcount == 0

    wait_until(are_reaped)


@contextmanager
def missing_table(database: Engine, name: str) -> Iterator[None]:
    """Make every query of a table fail in a way that is no outage."""
    with database.begin() as connection:
        connection.execute(text(f"ALTER TABLE {name} RENAME TO missing_{name}"))
    try:
        yield
    finally:
        with database.begin() as connection:
            connection.execute(text(f"ALTER TABLE missing_{name} RENAME TO {name}"))
