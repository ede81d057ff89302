"""Limits of tenants: the platform's defaults, what differs for a tenant, and whether a job fits."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from shared.infra.database import read, single
from shared.infra.errors import InvalidRequest, TenantNotFound, TooManyJobs, TooMuchAudio
from shared.infra.quantities import duration
from shared.infra.settings import Settings
from shared.store.accounts import MAX_LIMIT
from shared.store.news import TENANTS_CHANNEL

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

    def with_own(self, own: Mapping[str, Any]) -> "Limits":
        """Return these defaults with what differs for a tenant.

        An upload is never larger than the default: that is the limit of the platform as well.
        """
        most = min(own.get("max_upload_bytes") or math.inf, self.max_upload_bytes)
        return replace(self, **{**own, "max_upload_bytes": int(most)})

    @property
    def restrict_jobs(self) -> bool:
        """Whether there is anything to be counted before a job is created."""
        return bool(self.max_jobs or self.audio_hours_per_day)


NO_LIMITS = Limits()

NAMES = tuple(each.name for each in fields(Limits))
"""Of the limits that a tenant may have of its own."""


def get_limits(engine: Engine, tenant: str) -> dict[str, float]:
    """Return what differs from the defaults for a tenant, by ``NAMES``.

    Raises:
        TenantNotFound: there is no such tenant.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with read(engine, tenant) as connection:
        own = connection.execute(
            text("SELECT limits FROM tenants WHERE id = :tenant"), {"tenant": tenant}
        ).scalar_one_or_none()
    if own is None:
        raise TenantNotFound(f"there is no tenant {tenant}")
    return _known(own)


def change_limits(
    engine: Engine, tenant: str, change: Mapping[str, float | None]
) -> dict[str, float]:
    """Change what differs from the defaults for a tenant, and return it.

    None takes the default again. Limits that are not named stay. API processes are told after the
    commit.

    Raises:
        InvalidRequest: there is no such limit, or it is no number that it may be.
        TenantNotFound: there is no such tenant.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    for name, limit in change.items():
        _check(name, limit)
    with single(engine, tenant) as connection:
        row = connection.execute(
            text("""
                WITH changed AS (
                    UPDATE tenants
                    SET limits = jsonb_strip_nulls(limits || CAST(:change AS jsonb))
                    WHERE id = :tenant RETURNING limits
                )
                SELECT limits, pg_notify(:channel, :tenant) FROM changed
            """),
            {"tenant": tenant, "change": json.dumps(dict(change)), "channel": TENANTS_CHANNEL},
        ).one_or_none()
    if row is None:
        raise TenantNotFound(f"there is no tenant {tenant}")
    return _known(row.limits)


def _check(name: str, limit: float | None) -> None:
    if name not in NAMES:
        raise InvalidRequest(f"there is no limit '{name}'; there are {', '.join(NAMES)}")
    if limit is None:
        return
    kinds = int | float if name == "audio_hours_per_day" else int
    if isinstance(limit, bool) or not isinstance(limit, kinds) or not 0 <= limit <= MAX_LIMIT:
        kind = "a whole number" if kinds is int else "a number"
        raise InvalidRequest(f"{name} must be {kind} from 0 to {MAX_LIMIT}")


def _known(own: Mapping[str, Any]) -> dict[str, float]:
    return {name: own[name] for name in NAMES if name in own}


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
    if not limits.restrict_jobs:
        return
    # A statement of its own: the count must see all that was committed before the lock was free.
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, 2))"), {"tenant": tenant}
    )
    _compare(connection, tenant, limits, ahead)


def look_for_room(engine: Engine, tenant: str, limits: Limits) -> None:
    """See that there is room for one more job now; ``check_room`` decides.

    Raises:
        TooManyJobs, TooMuchAudio: as ``check_room``.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with read(engine, tenant) as connection:
        _compare(connection, tenant, limits)


def _compare(connection: Connection, tenant: str, limits: Limits, ahead: int = 0) -> None:
    now = datetime.now(UTC)
    used = connection.execute(_USED, {"tenant": tenant, "today": now.date()}).one()
    jobs = used.jobs + ahead
    if limits.max_jobs and jobs >= limits.max_jobs:
        raise TooManyJobs(
            f"{jobs} of your jobs wait or run, and {limits.max_jobs} may", JOB_RETRY_S
        )
    most_s = 3600 * limits.audio_hours_per_day
    if most_s and used.audio_s >= most_s:
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
