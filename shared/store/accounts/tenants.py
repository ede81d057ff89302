"""Tenants: whose jobs, webhooks and keys are whose."""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, text

from shared.infra.database import EVERY_TENANT, read, single
from shared.infra.errors import InvalidRequest, TenantExists
from shared.store.accounts import TENANT_PATTERN, check_name


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant, as an administrator sees it."""

    id: str
    name: str
    created_at: datetime


def create_tenant(engine: Engine, tenant: str, name: str) -> TenantView:
    """Nothing -> a tenant without keys.

    Raises:
        InvalidRequest: the id has another form than ``TENANT_PATTERN``, or the name is none.
        TenantExists: there is a tenant of this id.
    """
    if not re.fullmatch(TENANT_PATTERN, tenant):
        raise InvalidRequest(
            "a tenant's id has up to 63 lower-case letters, digits, '-' and '_', and begins with "
            "a letter or digit"
        )
    check_name(name)
    with single(engine, EVERY_TENANT) as connection:
        row = connection.execute(
            text("""
                INSERT INTO tenants (id, name) VALUES (:id, :name)
                ON CONFLICT (id) DO NOTHING RETURNING id, name, created_at
            """),
            {"id": tenant, "name": name},
        ).one_or_none()
    if row is None:
        raise TenantExists(f"there is a tenant {tenant} already")
    return TenantView(*row)


def list_tenants(engine: Engine) -> list[TenantView]:
    """Return all tenants, by id."""
    with read(engine, EVERY_TENANT) as connection:
        rows = connection.execute(text("SELECT id, name, created_at FROM tenants ORDER BY id"))
        return [TenantView(*row) for row in rows]
