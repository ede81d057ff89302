"""The numbers of jobs and steps, at a cost that does not grow with the history."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, text

from shared.infra.database import EVERY_TENANT, read
from shared.store.states import ACTIVE_JOB_STATES, JobState

MOST_COUNTED = 5_000
"""Above this number of jobs in all, those that have ended are estimated."""

_PAGES_SAMPLED = 500
"""Of 8 kB: some thousand jobs."""


@dataclass(frozen=True, slots=True)
class JobCounts:
    """The number of jobs of all tenants."""

    by_state: Mapping[str, int]
    """Exact for active jobs. For ended jobs exact up to ``MOST_COUNTED`` jobs in all, else
    estimated from a sample."""
    cached: int
    """Jobs that got an equal job's transcript; exact or estimated likewise."""


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The steps of a queue that wait or run, without those of ended jobs."""

    queue: str
    queued_steps: int
    running_steps: int
    queued_audio_s: float
    """Seconds of audio in the chunks that wait; 0 for queues without chunks."""
    running_audio_s: float
    oldest_due_s: float
    """For how long the oldest step has been due; 0: none is."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The jobs of all tenants that wait or run."""

    jobs: int
    wait_s: float | None
    """How long a new job would wait, by how fast jobs have ended lately; None: too few have, or no
    model worker is ready."""


def measure_backlog(engine: Engine, *, live_s: float) -> Backlog:
    """Return the backlog. A worker counts as there that was seen within ``live_s``.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with read(engine, EVERY_TENANT) as connection:
        found = connection.execute(
            _BACKLOG,
            {"live_s": live_s, "lately_s": _LATELY_S, "most": _ENDS_MEASURED, "few": _FEW_ENDS},
        ).one()
    return Backlog(found.jobs, found.wait_s)


def count_jobs(engine: Engine) -> JobCounts:
    """Return the number of jobs by state, and of those that were cached."""
    with read(engine, EVERY_TENANT) as connection:
        rows = connection.execute(_FEW, {"most": MOST_COUNTED + 1}).all()
        by_state = dict.fromkeys(map(str, JobState), 0)
        if sum(row.jobs for row in rows) <= MOST_COUNTED:
            for row in rows:
                by_state[row.state] += row.jobs
            return JobCounts(by_state, sum(row.jobs for row in rows if row.cached))
        sampled = connection.execute(_SAMPLED, {"most": _PAGES_SAMPLED}).all()
        active = {row.state: row.jobs for row in connection.execute(_ACTIVE)}
    for state in by_state:
        is_active = state in ACTIVE_JOB_STATES
        estimate = round(sum(row.jobs for row in sampled if row.state == state))
        by_state[state] = active.get(state, 0) if is_active else estimate
    return JobCounts(by_state, round(sum(row.jobs for row in sampled if row.cached)))


def measure_queues(engine: Engine) -> list[QueueLoad]:
    """Return the load of each queue that has any."""
    with read(engine, EVERY_TENANT) as connection:
        return [QueueLoad(*row) for row in connection.execute(_QUEUES)]


_LATELY_S = 300.0
"""For how long the end of a job tells how fast the workers are."""
_ENDS_MEASURED = 500
_FEW_ENDS = 10
"""Fewer ends tell nothing."""

# Jobs a second: those that ended, by the time from the first one's beginning until now.
_BACKLOG = text("""
    WITH lately AS (
        SELECT started_at FROM jobs
        WHERE finished_at > statement_timestamp() - make_interval(secs => :lately_s)
          AND started_at IS NOT NULL AND state IN ('succeeded', 'failed')
        ORDER BY finished_at DESC LIMIT :most
    ), speed AS (
        SELECT count(*) / nullif(
            extract(epoch FROM statement_timestamp() - min(started_at))::float8, 0
        ) AS jobs_s
        FROM lately HAVING count(*) >= :few AND EXISTS (
            SELECT FROM workers WHERE role = 'model' AND state = 'ready'
              AND last_seen_at > statement_timestamp() - make_interval(secs => :live_s)
        )
    ), active AS (
        SELECT count(*) AS jobs FROM jobs WHERE state IN ('queued', 'running')
    )
    SELECT active.jobs, active.jobs / speed.jobs_s AS wait_s FROM active LEFT JOIN speed ON true
""")

_FEW = text("""
    SELECT state, cached, count(*) AS jobs
    FROM (SELECT state, cached FROM jobs LIMIT :most) AS few GROUP BY state, cached
""")

_ACTIVE = text("""
    SELECT state, count(*) AS jobs FROM jobs WHERE state IN ('queued', 'running') GROUP BY state
""")

_SAMPLED = text("""
    WITH sample AS MATERIALIZED (
        SELECT least(1, CAST(:most AS float8) * current_setting('block_size')::int
                        / greatest(1, pg_relation_size('jobs'))) AS share
    )
    SELECT state, cached, count(*) / (SELECT share FROM sample) AS jobs
    FROM jobs TABLESAMPLE SYSTEM (100 * (SELECT share FROM sample)) REPEATABLE (0)
    GROUP BY state, cached
""")
"""Each sampled job counts for those that it stands for. The pages of the sample are always the
same ones. What ANALYZE has found is hidden from roles that row-level security binds."""

_QUEUES = text("""
    SELECT queue, queued_steps, running_steps, queued_audio_s, running_audio_s, oldest_due_s
    FROM longhand_backlog ORDER BY queue
""")


@dataclass(frozen=True, slots=True)
class ModelBacklog:
    """A tenant's jobs of one model that wait or run."""

    model: str
    jobs: int
    audio_s: float
    """Of their audio, what is not transcribed; of jobs that are not prepared, nothing is known."""


def backlog_by_model(engine: Engine, tenant: str) -> list[ModelBacklog]:
    """Return a tenant's jobs under way, by model; the longest backlog first."""
    with read(engine, tenant) as connection:
        rows = connection.execute(
            text("""
                SELECT model, count(*) AS jobs,
                       sum(greatest(coalesce(duration_s, audio_planned_s) - audio_done_s, 0))
                           AS audio_s
                FROM jobs WHERE tenant = :tenant AND state IN ('queued', 'running')
                GROUP BY model ORDER BY audio_s DESC, model
            """),
            {"tenant": tenant},
        )
        return [ModelBacklog(row.model, row.jobs, row.audio_s) for row in rows]
