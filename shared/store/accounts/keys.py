"""API keys: created, listed, revoked, and looked up by their SHA-256."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from shared.infra.api_keys import digest_of, make_key
from shared.infra.database import EVERY_TENANT, read, single
from shared.infra.errors import KeyNotFound, TenantNotFound
from shared.store.accounts import check_name
from shared.store.accounts.scopes import Scope

MAX_LIFETIME_S = 100 * 365 * 86_400.0
"""A key that is to last longer never expires."""

_COLUMNS = "id, tenant, name, scopes, created_at, expires_at, last_used_at, revoked_at"


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key, as an administrator sees it; the key itself is not stored."""

    id: UUID
    tenant: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute."""
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class ValidKey:
    """A key that is neither revoked nor expired."""

    id: UUID
    tenant: str
    scopes: frozenset[str]
    expires_in_s: float | None
    """By the database's clock."""
    is_use_due: bool
    """Whether its last use is to be noted again."""


def create_key(
    engine: Engine,
    tenant: str,
    name: str,
    scopes: Collection[Scope],
    *,
    expires_in_s: float | None = None,
) -> tuple[KeyView, str]:
    """Nothing -> a valid key; returns it, which is the only time that it is seen.

    A tenant may have any number, so a new key can be in use before the old one is revoked.

    Raises:
        InvalidRequest: the name is none.
        TenantNotFound: there is no such tenant.
    """
    check_name(name)
    key = make_key()
    with single(engine, EVERY_TENANT) as connection:
        row = connection.execute(
            text(f"""
                INSERT INTO api_keys (id, tenant, name, sha256, scopes, expires_at)
                SELECT CAST(:id AS uuid), tenants.id, :name, :sha256, CAST(:scopes AS text[]),
                       clock_timestamp() + make_interval(secs => CAST(:expires_in_s AS float8))
                FROM tenants WHERE tenants.id = :tenant
                RETURNING {_COLUMNS}
            """),  # noqa: S608 - the columns are a constant
            {
                "id": uuid7(),
                "tenant": tenant,
                "name": name,
                "sha256": digest_of(key),
                "scopes": sorted(map(str, scopes)),
                "expires_in_s": expires_in_s,
            },
        ).one_or_none()
    if row is None:
        raise TenantNotFound(f"there is no tenant {tenant}")
    return KeyView(*row), key


def list_keys(engine: Engine, tenant: str | None = None) -> list[KeyView]:
    """Return the keys of a tenant, or of all tenants, the oldest first."""
    with read(engine, EVERY_TENANT) as connection:
        rows = connection.execute(
            text(f"""
                SELECT {_COLUMNS} FROM api_keys
                WHERE tenant = coalesce(CAST(:tenant AS text), tenant) ORDER BY id
            """),  # noqa: S608 - the columns are a constant
            {"tenant": tenant},
        )
        return [KeyView(*row) for row in rows]


def revoke_key(engine: Engine, key_id: UUID) -> KeyView:
    """Valid or expired -> revoked, for good; a revoked key does not change.

    Raises:
        KeyNotFound: there is no key of this id.
    """
    with single(engine, EVERY_TENANT) as connection:
        row = connection.execute(
            text(f"""
                UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
                WHERE id = :id RETURNING {_COLUMNS}
            """),  # noqa: S608 - the columns are a constant
            {"id": key_id},
        ).one_or_none()
    if row is None:
        raise KeyNotFound(f"there is no key {key_id}")
    return KeyView(*row)


def find_keys(engine: Engine, digests: Collection[bytes]) -> Mapping[bytes, ValidKey]:
    """Return the valid keys among these, by the SHA-256 of each."""
    with read(engine) as connection:
        rows = connection.execute(
            text("SELECT * FROM longhand_find_keys(CAST(:digests AS bytea[]))"),
            {"digests": list(digests)},
        )
        return {
            bytes(row.digest): ValidKey(
                row.id, row.tenant, frozenset(row.scopes), row.expires_in_s, row.is_use_due
            )
            for row in rows
        }


def note_use(engine: Engine, key_ids: Collection[UUID]) -> None:
    """Note that these keys are in use now; another process may have done so."""
    with single(engine, EVERY_TENANT) as connection:
        connection.execute(
            text("""
                WITH free AS (
                    SELECT id FROM api_keys WHERE id = ANY (:ids) ORDER BY id
                    FOR NO KEY UPDATE SKIP LOCKED
                )
                UPDATE api_keys SET last_used_at = clock_timestamp()
                FROM free WHERE api_keys.id = free.id
            """),
            {"ids": list(key_ids)},
        )
