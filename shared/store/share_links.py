"""Share links: what opens one job's transcript and audio, read only, to whoever has it.

A link's token is 256 random bits. The database has its SHA-256 alone, so a link is seen once, as
it is made. A link ends when it expires, when it is revoked, and with its job.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from shared.infra.api_keys import digest_of
from shared.infra.database import begin, read, single
from shared.infra.errors import (
    JobNotFound,
    ShareLinkNotFound,
    TooManyShareLinks,
    TranscriptDeleted,
    TranscriptNotReady,
)

DEFAULT_S = 7 * 86_400
"""How long a link is valid unless it is said."""
SHORTEST_S, LONGEST_S = 60, 90 * 86_400
"""Bounds of what may be said."""
MOST_OF_A_JOB = 100
"""Valid links at once."""

_TOKEN_BYTES = 32
_COLUMNS = "id, created_at, expires_at"


@dataclass(frozen=True, slots=True)
class ShareLinkView:
    """A link without its token."""

    id: UUID
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Shared:
    """What a valid link opens."""

    tenant: str
    job_id: UUID
    expires_at: datetime


def create_share_link(
    engine: Engine, tenant: str, job_id: UUID, *, expires_in_s: float = DEFAULT_S
) -> tuple[ShareLinkView, str]:
    """Nothing -> a valid link; returns it with its token. Expired links of the job are removed.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady, TranscriptDeleted: there is nothing to read.
        TooManyShareLinks: the job has ``MOST_OF_A_JOB`` valid ones.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    with begin(engine, tenant) as connection:
        job = connection.execute(
            text("""
                SELECT state, transcript_id, transcript_deleted_at FROM jobs
                WHERE id = :id AND tenant = :tenant FOR NO KEY UPDATE
            """),
            {"id": job_id, "tenant": tenant},
        ).one_or_none()
        if job is None:
            raise JobNotFound(f"there is no job {job_id}")
        if job.transcript_deleted_at is not None:
            raise TranscriptDeleted("the transcript was removed: its time was up")
        if job.transcript_id is None:
            raise TranscriptNotReady(f"the job is {job.state}, so it has no transcript", job.state)
        connection.execute(
            text("DELETE FROM share_links WHERE job_id = :id AND expires_at <= clock_timestamp()"),
            {"id": job_id},
        )
        row = connection.execute(
            text(f"""
                INSERT INTO share_links (id, job_id, sha256, expires_at)
                SELECT :id, :job_id, :sha256,
                       clock_timestamp() + make_interval(secs => :expires_in_s)
                WHERE (SELECT count(*) FROM share_links WHERE job_id = :job_id) < :most
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - the columns are a constant
            {
                "id": uuid7(),
                "job_id": job_id,
                "sha256": digest_of(token),
                "expires_in_s": expires_in_s,
                "most": MOST_OF_A_JOB,
            },
        ).one_or_none()
    if row is None:
        raise TooManyShareLinks(f"the job has {MOST_OF_A_JOB} share links: revoke one first")
    return ShareLinkView(*row), token


def list_share_links(engine: Engine, tenant: str, job_id: UUID) -> list[ShareLinkView]:
    """Return a job's valid links, the oldest first.

    Raises:
        JobNotFound: there is no such job for this tenant.
    """
    with read(engine, tenant) as connection:
        rows = connection.execute(
            text("""
                SELECT share_links.id, share_links.created_at, share_links.expires_at
                FROM jobs LEFT JOIN share_links
                  ON share_links.job_id = jobs.id AND share_links.expires_at > clock_timestamp()
                WHERE jobs.id = :id AND jobs.tenant = :tenant ORDER BY share_links.id
            """),
            {"id": job_id, "tenant": tenant},
        ).all()
    if not rows:
        raise JobNotFound(f"there is no job {job_id}")
    return [ShareLinkView(*row) for row in rows if row.id is not None]


def revoke_share_link(engine: Engine, tenant: str, job_id: UUID, link_id: UUID) -> None:
    """Valid or expired -> nothing.

    Raises:
        ShareLinkNotFound: this tenant's job has no such link.
    """
    with single(engine, tenant) as connection:
        revoked = connection.execute(
            text("""
                DELETE FROM share_links USING jobs
                WHERE share_links.id = :id AND job_id = :job_id
                  AND jobs.id = job_id AND jobs.tenant = :tenant
            """),
            {"id": link_id, "job_id": job_id, "tenant": tenant},
        ).rowcount
    if not revoked:
        raise ShareLinkNotFound(f"the job has no share link {link_id}")


def find_share_links(engine: Engine, digests: Collection[bytes]) -> Mapping[bytes, Shared]:
    """Return what the valid links among these open, by the SHA-256 of each one's token."""
    with read(engine) as connection:
        rows = connection.execute(
            text("SELECT * FROM longhand_find_share_links(CAST(:digests AS bytea[]))"),
            {"digests": list(digests)},
        )
        return {bytes(row.digest): Shared(row.tenant, row.job_id, row.expires_at) for row in rows}
