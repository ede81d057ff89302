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
class QueueCount:
    """The number of steps of a queue in a state."""

    queue: str
    state: str
    steps: int


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


def count_steps(engine: Engine) -> list[QueueCount]:
    """Return the number of waiting and running steps by queue, without those of ended jobs."""
    with read(engine, EVERY_TENANT) as connection:
        return [QueueCount(*row) for row in connection.execute(_LIVE_STEPS)]


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

_LIVE_STEPS = text("""
    SELECT queue, state, count(*) FROM (
        SELECT queue, state FROM steps WHERE state = 'running'
        UNION ALL
        SELECT queue, state FROM steps WHERE state = 'queued'
    ) AS live
    GROUP BY queue, state ORDER BY queue, state
""")
"""Each part reads a partial index without the steps that are done or void."""
