"""Claims: the right to work on a step; how a worker takes, keeps and loses it."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row

from shared.infra.database import EVERY_TENANT, begin, read, single, text
from shared.infra.errors import DatabaseUnavailable, LeaseLost
from shared.models.options import ResolvedOptions
from shared.store.news import announce
from shared.store.queues import DELIVER_QUEUE, FETCH_QUEUE, LARGE_QUEUE
from shared.store.states import StepKind
from shared.store.steps.fair_order import take_next

log = logging.getLogger(__name__)

_LIMITED_QUEUES = (DELIVER_QUEUE, FETCH_QUEUE, LARGE_QUEUE)
"""Their running steps are limited, so the end of one makes room for another."""


_COUNTING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a step, while (step_id, epoch) is current."""

    step_id: int
    job_id: UUID
    tenant: str
    kind: StepKind
    idx: int
    queue: str
    attempt: int
    max_attempts: int
    outages: int
    epoch: int
    owner: str
    input: Mapping[str, Any]
    audio: bytes | None
    """Samples of a short file's chunk, s16le."""
    bug: str | None
    """Fingerprint of the unexpected error that ended the last attempt."""
    options: ResolvedOptions
    detected_language: str | None
    detected_probability: float | None
    source_key: str
    source_bytes: int
    """0 until the file is fetched."""
    duration_s: float | None
    """Of the decoded audio; None until the job is prepared."""
    metrics: Mapping[str, Any]
    """Of the job, so far."""
    only_chunk: bool
    """Whether this is the job's one chunk, the plan is complete and no speakers are looked for."""
    traceparent: str | None
    """The span that submitted the job; None: it has no trace."""
    waited_s: float
    """From when the step was due to its claim."""
    is_repeated: bool
    """Whether the claim before this one ended without completing the step."""

    @property
    def language(self) -> str | None:
        """The requested language, else the one detected for the whole job."""
        return self.options.language or self.detected_language


@dataclass(frozen=True, slots=True)
class Taken:
    """What ``claim_next`` found."""

    claims: Sequence[Claim]
    """By priority, then the jobs' turns, then the order within a job."""
    more: bool
    """Whether to claim again once these are done: more steps were due, or a limit kept some back.
    Without claims: other transactions hold all that is due."""


def claim_next(engine: Engine, queue: str, *, owner: str, lease_s: float, limit: int = 1) -> Taken:
    """Steps queued -> running: the fairest due steps of a queue; their jobs -> running.

    Tenants take turns. Within a tenant, steps whose worker was lost go first; then priority
    decides, then the job's own turn (a short job does not wait for a long one's chunks), then age.
    Deliveries are claimed one at a time: first of the tenant with the fewest running, then to
    endpoints that answer promptly, then to that with the fewest running. An endpoint has at most
    ``LANE_LIMIT``; hosts and tenants have shares (``fair_order``).

    Of large files one may always be prepared, and more while they leave one slot of the ready
    workers free. So it is with fetches, of which no tenant has more than half while others wait.

    A claim waits for no row. Where other transactions hold all steps of the tenants whose turn it
    is, it takes those of the next tenants.
    """
    passed_by: list[str] = []
    most_found = 0
    while True:
        with _transaction(engine, queue) as connection:
            rows = take_next(
                connection, queue, passed_by, owner=owner, lease_s=lease_s, limit=limit
            )
        claims = [claim_of(row) for row in rows if row.step_id is not None]
        most_found = max(most_found, rows[0].found if rows else 0)
        if claims or not rows or not rows[0].tenants:
            break
        passed_by += rows[0].tenants
    started = [
        row.job_id for row in rows if row.job_state == "queued" and row.kind != StepKind.DELIVER
    ]
    if started:
        try:
            _start(engine, started)
        except DatabaseUnavailable as error:
            log.warning("%s: jobs are said to run with their next claim", error)
    kept_back = bool(claims) and queue in _LIMITED_QUEUES
    return Taken(claims, more=kept_back or most_found > len(claims))


def is_any_due(engine: Engine, queue: str) -> bool:
    """Return whether any step of a queue is due."""
    with read(engine, EVERY_TENANT) as connection:
        due = connection.execute(
            text("""
                SELECT EXISTS (
                    SELECT FROM steps WHERE queue = :queue AND state = 'queued'
                    AND run_at <= statement_timestamp()
                )
            """),
            {"queue": queue},
        )
        return bool(due.scalar_one())


@contextmanager
def _transaction(engine: Engine, queue: str) -> Iterator[Connection]:
    """Begin the transaction of a claim, one statement where nothing is counted.

    Where running steps are counted, one claim at a time is made, under a lock in the database.
    Threads of a process do not wait for that with a connection each.
    """
    if queue not in _LIMITED_QUEUES:
        with single(engine) as connection:
            yield connection
    else:
        with _COUNTING, begin(engine) as connection:
            yield connection


def _start(engine: Engine, job_ids: Sequence[UUID]) -> None:
    """Jobs queued -> running.

    This has a transaction of its own: a claim locks no job, so claims and completions of one job do
    not wait for each other.
    """
    with single(engine) as connection:
        connection.execute(
            text("""
                WITH waiting AS (
                    SELECT id FROM jobs WHERE id = ANY (:ids) AND state = 'queued'
                      AND EXISTS (SELECT FROM steps WHERE job_id = jobs.id AND state = 'running')
                    ORDER BY id FOR NO KEY UPDATE
                ), started AS (
                    UPDATE jobs SET state = 'running', started_at = clock_timestamp(),
                                    last_event = nextval('event_ids')
                    FROM waiting WHERE jobs.id = waiting.id
                    RETURNING jobs.id, last_event
                )
                INSERT INTO job_events (id, job_id, event)
                SELECT last_event, id, 'job.running' FROM started
            """),
            {"ids": list(job_ids)},
        )
        for job_id in job_ids:
            announce(connection, job_id)


def renew(engine: Engine, held: Sequence[Claim], *, lease_s: float) -> set[tuple[int, int]]:
    """Running -> running with a later ``lease_until``.

    Returns (step id, epoch) of each claim that is still current. A step that another transaction
    has locked is skipped until the next heartbeat.
    """
    with single(engine) as connection:
        rows = connection.execute(
            text("""
                WITH held AS (
                    SELECT steps.id, steps.epoch
                    FROM unnest(CAST(:ids AS bigint[]), CAST(:epochs AS int[])) AS claim (id, epoch)
                    JOIN steps USING (id, epoch)
                    WHERE steps.state = 'running'
                ), free AS (
                    SELECT steps.id FROM steps JOIN held USING (id, epoch)
                    WHERE steps.state = 'running'
                    FOR NO KEY UPDATE OF steps SKIP LOCKED
                ), renewed AS (
                    UPDATE steps
                    SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
                    FROM free WHERE steps.id = free.id
                )
                SELECT id, epoch FROM held
            """),
            {
                "ids": [claim.step_id for claim in held],
                "epochs": [claim.epoch for claim in held],
                "lease_s": lease_s,
            },
        )
        return {(row.id, row.epoch) for row in rows}


def expire_leases(engine: Engine, owners: str) -> int:
    """Running -> running with an expired lease, for owners that died; the next sweep reaps them.

    ``owners`` is the prefix of their names. Returns the number of leases.
    """
    with single(engine) as connection:
        return connection.execute(
            text("""
                UPDATE steps SET lease_until = '-infinity'
                WHERE state = 'running' AND starts_with(lease_owner, :owners)
            """),
            {"owners": owners},
        ).rowcount


@contextmanager
def fenced(engine: Engine, claim: Claim) -> Iterator[Connection]:
    """Begin a transaction with the locks on the claim's job and step; raises as ``fence``."""
    with begin(engine) as connection:
        fence(connection, claim)
        yield connection


def fence(connection: Connection, claim: Claim, *, to_reap: bool = False) -> None:
    """Lock the job and then the step, if the claim is still current.

    The reaper also requires an expired lease, and skips a job that is locked.

    Raises:
        LeaseLost: the claim is not current.
    """
    row = connection.execute(
        text(f"""
            WITH job AS (
                SELECT jobs.id FROM jobs JOIN steps ON steps.job_id = jobs.id
                WHERE jobs.id = :job_id AND steps.id = :step_id AND steps.state = 'running'
                FOR NO KEY UPDATE OF jobs {"SKIP LOCKED" if to_reap else ""}
            )
            SELECT steps.id FROM job JOIN steps ON steps.job_id = job.id
            WHERE steps.id = :step_id AND steps.epoch = :epoch AND steps.state = 'running'
              {"AND steps.lease_until < clock_timestamp()" if to_reap else ""}
            FOR NO KEY UPDATE OF steps
        """),  # noqa: S608 - the variable parts are constants
        {"job_id": claim.job_id, "step_id": claim.step_id, "epoch": claim.epoch},
    ).one_or_none()
    if row is None:
        raise LeaseLost(f"step {claim.step_id} is no longer held at epoch {claim.epoch}")


def record_step(
    connection: Connection, claim: Claim, event: str, detail: str | None = None
) -> None:
    """Write to the audit trail what became of an attempt that did not complete its step."""
    connection.execute(
        text("""
            INSERT INTO job_events (job_id, step_id, event, attempt, epoch, worker, detail)
            VALUES (:job_id, :step_id, :event, :attempt, :epoch, :owner, :detail)
        """),
        {
            "job_id": claim.job_id,
            "step_id": claim.step_id,
            "event": event,
            "attempt": claim.attempt,
            "epoch": claim.epoch,
            "owner": claim.owner,
            "detail": detail,
        },
    )


def claim_of(row: Row[Any]) -> Claim:
    """Return the claim on a step from a row of ``COLUMNS``."""
    fields = {name: getattr(row, name) for name in Claim.__slots__}
    options = ResolvedOptions.model_validate(row.options)
    return Claim(**fields | {"kind": StepKind(row.kind), "options": options})
