"""Limits of tenants: the platform's defaults, what differs for a tenant, and whether a job fits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from shared.infra.database import read, single
from shared.infra.errors import TooManyJobs, TooMuchAudio
from shared.infra.quantities import duration
from shared.infra.settings import Settings

JOB_RETRY_S = 10.0
"""How soon to try again after ``TooManyJobs``: a short job takes about as long."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may have; 0: any number."""

    requests_per_minute: int = 0
    max_jobs: int = 0
    """That wait or run."""
    audio_hours_per_day: float = 0.0
    max_upload_bytes: int = 0
    max_open_uploads: int = 0
    """Uploads that lack bytes (``shared.store.uploads``)."""
    max_streams: int = 0
    """In one API process, as the sessions below; calls of ``POST /transcribe`` have as many."""
    max_live_sessions: int = 0

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the platform's defaults."""
        return cls(
            requests_per_minute=settings.tenant_requests_per_minute,
            max_jobs=settings.tenant_max_jobs,
            audio_hours_per_day=settings.tenant_audio_hours_per_day,
            max_upload_bytes=settings.max_upload_bytes,
            max_open_uploads=settings.tenant_max_open_uploads,
            max_streams=settings.tenant_max_streams,
            max_live_sessions=settings.tenant_max_live_sessions,
        )


NO_LIMITS = Limits()

NAMES = tuple(each.name for each in fields(Limits))
"""Of the limits that a tenant may have of its own."""


def read_limits(engine: Engine, tenant: str) -> Mapping[str, Any]:
    """Return what differs from the defaults for a tenant, by ``NAMES``.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with read(engine, tenant) as connection:
        own = connection.execute(
            text("SELECT limits FROM tenants WHERE id = :tenant"), {"tenant": tenant}
        ).scalar_one_or_none()
    return {name: own[name] for name in NAMES if name in own} if own else {}


def set_limits(engine: Engine, tenant: str, own: Mapping[str, float]) -> None:
    """Store what differs from the defaults for a tenant, in place of what did before.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with single(engine, tenant) as connection:
        connection.execute(
            text("UPDATE tenants SET limits = CAST(:own AS jsonb) WHERE id = :tenant"),
            {"tenant": tenant, "own": json.dumps(dict(own))},
        )


def check_room(connection: Connection, tenant: str, limits: Limits, *, ahead: int = 0) -> None:
    """See that the tenant may have one more job, which the caller's transaction adds.

    ``ahead`` is how many it adds beside.

    The tenant's lock is held until the commit, so no two transactions count the same free place.
    Other tenants, and tenants without such limits, take no lock and are asked nothing.

    Raises:
        TooManyJobs: as many of its jobs wait or run as may.
        TooMuchAudio: the audio of its jobs that ended today, and that is known of those under way,
            is as much as it may be.
    """
    if not (limits.max_jobs or limits.audio_hours_per_day):
        return
    # A statement of its own: the count must see all that was committed before the lock was free.
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, 2))"), {"tenant": tenant}
    )
    now = datetime.now(UTC)
    found = connection.execute(_USED, {"tenant": tenant, "today": now.date()}).one()
    jobs = found.jobs + ahead
    if limits.max_jobs and jobs >= limits.max_jobs:
        raise TooManyJobs(
            f"{jobs} of your jobs wait or run, and {limits.max_jobs} may", JOB_RETRY_S
        )
    most_s = 3600 * limits.audio_hours_per_day
    if most_s and found.audio_s >= most_s:
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        raise TooMuchAudio(
            f"your audio of today is {duration(most_s)} or more, which is the limit",
            (midnight - now).total_seconds(),
        )


_USED = text("""
    WITH active AS (
        SELECT count(*) AS jobs, coalesce(sum(duration_s - counted_audio_s), 0) AS audio_s
        FROM jobs WHERE tenant = :tenant AND state IN ('queued', 'running')
    ), today AS (
        SELECT audio_s FROM usage WHERE tenant = :tenant AND day = :today
        UNION ALL
        SELECT audio_s FROM usage_entries WHERE tenant = :tenant AND day = :today
    )
    SELECT active.jobs, active.audio_s + coalesce((SELECT sum(audio_s) FROM today), 0) AS audio_s
    FROM active
""")
