"""Usage: what each tenant had done on each day (UTC).

An entry is written in the transaction that ends a job, so it is there exactly once. Transactions
that end jobs at the same moment write entries of their own and do not wait for each other;
``add_up_usage`` adds the entries to the days' sums from time to time.

- ``jobs``: jobs that ended, or were deleted before, each counted once, however often it is retried.
- ``audio_s``: the length of what was transcribed: of a job that succeeded all of it, else the
  chunks that are done. A transcript that an equal job shares costs nothing.
- ``model_s``: what the models' calls took for its finished chunks, and for spans of its speakers.
- ``live_s``: audio of live sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import EVERY_TENANT, fetch, read, single

IDS = "(SELECT CAST(:ids AS uuid[]))::uuid[]"
"""SQL for the ids of jobs. From a subquery, Postgres does not see how many there are. Otherwise it
would plan a statement anew each time, expecting more of any array than there usually are."""

SPENT = f"""
    SELECT id, tenant, CASE WHEN run = 1 THEN 1 ELSE 0 END AS jobs,
        greatest(0, -counted_audio_s + CASE
            WHEN cached THEN 0
            WHEN state = 'succeeded' THEN coalesce(duration_s, 0)
            ELSE least(audio_done_s, duration_s)
        END) AS audio_s,
        greatest(0, -counted_model_s + (
            SELECT coalesce(sum(CASE kind
                WHEN 'diarize' THEN (timings ->> 'diarize_s')::float8
                ELSE (timings ->> 'inference_s')::float8
                    / greatest(1, (timings ->> 'batch_size')::float8)
                + coalesce((timings ->> 'reheard_s')::float8, 0)
            END), 0)
            FROM steps
            WHERE job_id = jobs.id AND kind IN ('transcribe', 'diarize') AND steps.state = 'done'
        )) AS model_s
    FROM jobs WHERE id = ANY ({IDS})
"""  # noqa: S608 - constants
"""SQL for what jobs have used that is not counted yet."""

COUNT = """
    INSERT INTO usage_entries (tenant, day, jobs, audio_s, model_s)
    SELECT tenant, (clock_timestamp() AT TIME ZONE 'UTC')::date, sum(jobs), sum(audio_s),
           sum(model_s)
    FROM spent GROUP BY tenant
"""
"""SQL that counts it; ``spent`` is ``SPENT``. The jobs' rows are to be marked as well."""


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What a tenant used on a day."""

    day: date
    jobs: int
    audio_s: float
    model_s: float
    live_s: float


def count_unfinished(connection: Connection, job_id: UUID) -> None:
    """Count what a job has used that ends by being deleted; the caller has locked its row."""
    connection.execute(
        text(f"WITH spent AS ({SPENT}) {COUNT}"),
        {"ids": [job_id]},
    )


def count_live(engine: Engine, tenant: str, live_s: float) -> None:
    """Count the audio of live sessions.

    Raises:
        CommitUncertain: it was counted or not.
        DatabaseUnavailable: Postgres cannot be reached; nothing was counted.
    """
    with single(engine, tenant) as connection:
        connection.execute(
            text("""
                INSERT INTO usage_entries (tenant, day, live_s)
                VALUES (:tenant, (clock_timestamp() AT TIME ZONE 'UTC')::date, :live_s)
            """),
            {"tenant": tenant, "live_s": live_s},
        )


def add_up_usage(engine: Engine) -> None:
    """Add the entries to the sums of their days; readers see each entry once at any time.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with single(engine, EVERY_TENANT) as connection:
        connection.execute(
            text("""
                WITH taken AS (DELETE FROM usage_entries RETURNING *)
                INSERT INTO usage (tenant, day, jobs, audio_s, model_s, live_s)
                SELECT tenant, day, sum(jobs), sum(audio_s), sum(model_s), sum(live_s)
                FROM taken GROUP BY tenant, day ORDER BY tenant, day
                ON CONFLICT (tenant, day) DO UPDATE
                SET jobs = usage.jobs + excluded.jobs, audio_s = usage.audio_s + excluded.audio_s,
                    model_s = usage.model_s + excluded.model_s,
                    live_s = usage.live_s + excluded.live_s
            """)
        )


def read_usage(engine: Engine, tenant: str, first: date, last: date) -> Sequence[DayUsage]:
    """Return what a tenant used, for each day on which there was anything.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    parameters: dict[str, Any] = {"tenant": tenant, "first": first, "last": last}
    with read(engine, tenant) as connection:
        return [DayUsage(**row) for row in fetch(connection, _USAGE, parameters)]


_USAGE = """
    SELECT day, sum(jobs)::bigint AS jobs, sum(audio_s) AS audio_s, sum(model_s) AS model_s,
           sum(live_s) AS live_s
    FROM (
        SELECT day, jobs, audio_s, model_s, live_s FROM usage
        WHERE tenant = %(tenant)s AND day BETWEEN %(first)s AND %(last)s
        UNION ALL
        SELECT day, jobs, audio_s, model_s, live_s FROM usage_entries
        WHERE tenant = %(tenant)s AND day BETWEEN %(first)s AND %(last)s
    ) AS used
    GROUP BY day ORDER BY day
"""


@dataclass(frozen=True, slots=True)
class TenantToday:
    """A tenant's jobs under way, and what it has used today (UTC), as of ``DayUsage``."""

    tenant: str
    queued: int
    running: int
    jobs: int
    audio_s: float
    model_s: float
    live_s: float


def tenants_today(engine: Engine, *, most: int) -> Sequence[TenantToday]:
    """Return tenants with anything under way or used today: at most so many, by their audio.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with read(engine, EVERY_TENANT) as connection:
        return [TenantToday(**row) for row in fetch(connection, _TODAY, {"most": most})]


_TODAY = """
    WITH today AS (
        SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS day
    ), used AS (
        SELECT tenant, sum(jobs)::bigint AS jobs, sum(audio_s) AS audio_s,
               sum(model_s) AS model_s, sum(live_s) AS live_s
        FROM (
            SELECT tenant, jobs, audio_s, model_s, live_s FROM usage JOIN today USING (day)
            UNION ALL
            SELECT tenant, jobs, audio_s, model_s, live_s FROM usage_entries JOIN today USING (day)
        ) AS entry
        GROUP BY tenant
    ), active AS (
        SELECT tenant, count(*) FILTER (WHERE state = 'queued') AS queued,
               count(*) FILTER (WHERE state = 'running') AS running
        FROM jobs WHERE state IN ('queued', 'running') GROUP BY tenant
    )
    SELECT tenant, coalesce(queued, 0) AS queued, coalesce(running, 0) AS running,
           coalesce(jobs, 0) AS jobs, coalesce(audio_s, 0) AS audio_s,
           coalesce(model_s, 0) AS model_s, coalesce(live_s, 0) AS live_s
    FROM used FULL JOIN active USING (tenant)
    ORDER BY coalesce(audio_s, 0) + coalesce(live_s, 0) DESC, tenant
    LIMIT %(most)s
"""
