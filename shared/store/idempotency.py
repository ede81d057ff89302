"""Requests that clients may repeat: each key of a tenant stands for one request and its jobs.

A request takes its key before it makes anything, holds it while it works, and answers it in the
transaction that commits its jobs. So a request that was committed is never made twice, and one
whose process died may be made again once nobody renews its hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, text

from shared.infra.database import single
from shared.infra.errors import IdempotencyKeyInUse

KEEP_S = 86_400.0
"""How long a key is known."""

HOLD_S = 30.0
"""How long a request holds its key without renewing that."""

RETRY_S = 2.0
"""How soon to ask again for a request that is under way."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A key that a request holds."""

    tenant: str
    key: str
    holder: UUID


@dataclass(frozen=True, slots=True)
class Answered:
    """What the request of a key has made."""

    fingerprint: str
    """Of the request."""
    answer: Mapping[str, Any]


def take_key(engine: Engine, tenant: str, key: str) -> Hold | Answered:
    """Free -> held, for ``HOLD_S``; or what an answered key stands for.

    A key is free if it is unknown, older than ``KEEP_S``, or no longer held without an answer.

    Raises:
        IdempotencyKeyInUse: another request holds it.
    """
    hold = Hold(tenant, key, uuid4())
    values = {"tenant": tenant, "key": key, "holder": hold.holder, "hold_s": HOLD_S}
    with single(engine, tenant) as connection:
        taken = connection.execute(_TAKE, values | {"keep_s": KEEP_S}).one_or_none()
    if taken is not None:
        return hold
    with single(engine, tenant) as connection:
        found = connection.execute(
            text("""
                SELECT fingerprint, answer FROM idempotency_keys
                WHERE tenant = :tenant AND key = :key
            """),
            values,
        ).one_or_none()
    if found is None or found.answer is None:
        raise in_use()
    return Answered(found.fingerprint, found.answer)


_TAKE = text("""
    INSERT INTO idempotency_keys AS known (tenant, key, holder, held_until)
    VALUES (:tenant, :key, :holder, clock_timestamp() + make_interval(secs => :hold_s))
    ON CONFLICT (tenant, key) DO UPDATE
    SET holder = excluded.holder, held_until = excluded.held_until, fingerprint = NULL,
        answer = NULL, created_at = excluded.created_at
    WHERE known.answer IS NULL AND known.held_until < clock_timestamp()
       OR known.created_at < clock_timestamp() - make_interval(secs => :keep_s)
    RETURNING holder
""")


def renew_key(engine: Engine, hold: Hold) -> None:
    """Held -> held for ``HOLD_S`` from now; a key that is lost stays lost."""
    with single(engine, hold.tenant) as connection:
        connection.execute(
            text("""
                UPDATE idempotency_keys
                SET held_until = clock_timestamp() + make_interval(secs => :hold_s)
                WHERE tenant = :tenant AND key = :key AND holder = :holder
            """),
            {**_names(hold), "hold_s": HOLD_S},
        )


def answer_key(
    connection: Connection, hold: Hold, fingerprint: str, answer: Mapping[str, Any]
) -> None:
    """Held -> answered, within the transaction that makes what the answer tells of.

    Raises:
        IdempotencyKeyInUse: another request has taken the key.
    """
    kept = connection.execute(
        text("""
            UPDATE idempotency_keys SET fingerprint = :fingerprint, answer = :answer
            WHERE tenant = :tenant AND key = :key AND holder = :holder
        """),
        {**_names(hold), "fingerprint": fingerprint, "answer": Jsonb(dict(answer))},
    ).rowcount
    if not kept:
        raise in_use()


def free_key(engine: Engine, hold: Hold) -> None:
    """Held -> free, as nothing was made; an answered key stays."""
    with single(engine, hold.tenant) as connection:
        connection.execute(
            text("""
                DELETE FROM idempotency_keys
                WHERE tenant = :tenant AND key = :key AND holder = :holder AND answer IS NULL
            """),
            _names(hold),
        )


def expire_keys(engine: Engine, *, limit: int) -> int:
    """Known -> free, for keys older than ``KEEP_S``; returns their number."""
    with single(engine) as connection:
        return connection.execute(
            text("""
                DELETE FROM idempotency_keys WHERE (tenant, key) IN (
                    SELECT tenant, key FROM idempotency_keys
                    WHERE created_at < clock_timestamp() - make_interval(secs => :keep_s)
                      AND held_until < clock_timestamp()
                    ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
                )
            """),
            {"keep_s": KEEP_S, "limit": limit},
        ).rowcount


def in_use() -> IdempotencyKeyInUse:
    """Return the refusal of a request whose key another one holds."""
    return IdempotencyKeyInUse("a request with this Idempotency-Key is under way", RETRY_S)


def _names(hold: Hold) -> dict[str, Any]:
    return {"tenant": hold.tenant, "key": hold.key, "holder": hold.holder}
