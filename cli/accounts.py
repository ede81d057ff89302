"""Tenants and keys as the command line changes them: through a server, or in the database itself.

The first key cannot be made through a server that asks for one.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from longhand_sdk import Longhand
from pydantic import SecretStr, TypeAdapter

from cli.errors import CommandError
from cli.server import connect, told
from shared.infra.settings import Settings, get_settings
from shared.store import limits
from shared.store.accounts import keys, tenants
from shared.store.accounts.keys import KeyView
from shared.store.accounts.scopes import Scope
from shared.store.accounts.tenants import TenantView


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """The limits of a tenant, by ``shared.store.limits.NAMES``."""

    own: Mapping[str, float]
    """What differs from the platform's defaults."""
    in_force: Mapping[str, float]
    """What holds; without the defaults where only a server knows them."""


class Accounts(Protocol):
    """Tenants and their keys; every failure is a ``CommandError`` or ``LonghandError``."""

    def create_key(
        self, tenant: str, name: str, scopes: Sequence[Scope], expires_in_s: float | None
    ) -> str:
        """Return a new key."""

    def keys(self, tenant: str | None) -> list[KeyView]:
        """Return the keys of a tenant, or of all."""

    def revoke(self, key_id: Any) -> KeyView:
        """Revoke a key."""

    def create_tenant(self, tenant: str, name: str) -> TenantView:
        """Add a tenant."""

    def tenants(self) -> list[TenantView]:
        """Return all tenants."""

    def change_limits(self, tenant: str, change: Mapping[str, float | None]) -> TenantLimits:
        """Change limits of a tenant, and return all; None takes the platform's default again."""


@contextmanager
def accounts(server: str | None, data: Path) -> Iterator[Accounts]:
    """Yield the accounts of a server, of ``LONGHAND_DATABASE_URL``, or of what runs in ``data``.

    Raises:
        CommandError: there is no such platform, or it cannot be used in this way.
    """
    try:
        if server is None:
            with _of_database(_settings(data)) as found:
                yield found
            return
        with connect(server) as client:
            yield _OfServer(client)
    except UnicodeEncodeError as error:  # bytes of the command line that are no characters
        raise CommandError("ids, names and keys must be text in UTF-8") from error


@contextmanager
def _of_database(settings: Settings) -> Iterator["_OfDatabase"]:
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError  # SQLAlchemy takes 0.3 s

    from shared.infra.database import make_engine

    try:
        engine = make_engine(settings, pool_size=1)
        try:
            yield _OfDatabase(engine)
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise CommandError(f"cannot use the database of LONGHAND_DATABASE_URL: {reason}") from error


def _settings(data: Path) -> Settings:
    """Return settings whose database is the one that is meant."""
    settings = get_settings()
    if os.environ.get("LONGHAND_DATABASE_URL"):
        return settings
    # What the embedded stack needs is in no image.
    from cli.embedded import postgres
    from cli.embedded.directory import DataDirectory

    directory = DataDirectory(data)
    port = postgres.port_in_use(directory.postgres)
    if directory.owner() is None or port is None:
        raise CommandError(
            f"no platform runs in {data}: start it with 'longhand up', name one with --server, or "
            "set LONGHAND_DATABASE_URL"
        )
    url = postgres.url(directory.credentials().postgres_password, port)
    return settings.model_copy(update={"database_url": SecretStr(url)})


class _OfDatabase:
    """Those in a database."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def create_key(
        self, tenant: str, name: str, scopes: Sequence[Scope], expires_in_s: float | None
    ) -> str:
        return keys.create_key(self._engine, tenant, name, scopes, expires_in_s=expires_in_s)[1]

    def keys(self, tenant: str | None) -> list[KeyView]:
        return keys.list_keys(self._engine, tenant)

    def revoke(self, key_id: Any) -> KeyView:
        return keys.revoke_key(self._engine, key_id)

    def create_tenant(self, tenant: str, name: str) -> TenantView:
        return tenants.create_tenant(self._engine, tenant, name)

    def tenants(self) -> list[TenantView]:
        return tenants.list_tenants(self._engine)

    def change_limits(self, tenant: str, change: Mapping[str, float | None]) -> TenantLimits:
        own = (
            limits.change_limits(self._engine, tenant, change)
            if change
            else limits.get_limits(self._engine, tenant)
        )
        return TenantLimits(own, own)


class _OfServer:
    """Those of a server, whose administrator's key ``LONGHAND_API_KEY`` has."""

    def __init__(self, client: Longhand) -> None:
        self._client = client

    def create_key(
        self, tenant: str, name: str, scopes: Sequence[Scope], expires_in_s: float | None
    ) -> str:
        wanted: dict[str, Any] = {"tenant": tenant, "name": name, "scopes": list(map(str, scopes))}
        if expires_in_s is not None:
            wanted["expires_in_s"] = expires_in_s
        return str(self._ask("POST", "/admin/keys", json=wanted)["key"])

    def keys(self, tenant: str | None) -> list[KeyView]:
        query = {} if tenant is None else {"tenant": tenant}
        found = self._ask("GET", "/admin/keys", params=query)["keys"]
        return TypeAdapter(list[KeyView]).validate_python(found)

    def revoke(self, key_id: Any) -> KeyView:
        return TypeAdapter(KeyView).validate_python(self._ask("DELETE", f"/admin/keys/{key_id}"))

    def create_tenant(self, tenant: str, name: str) -> TenantView:
        made = self._ask("POST", "/admin/tenants", json={"id": tenant, "name": name})
        return TypeAdapter(TenantView).validate_python(made)

    def tenants(self) -> list[TenantView]:
        found = self._ask("GET", "/admin/tenants")["tenants"]
        return TypeAdapter(list[TenantView]).validate_python(found)

    def change_limits(self, tenant: str, change: Mapping[str, float | None]) -> TenantLimits:
        path = f"/admin/tenants/{quote(tenant, safe='')}/limits"
        found = self._ask("PATCH", path, json=dict(change)) if change else self._ask("GET", path)
        own = {name: limit for name, limit in found["own"].items() if limit is not None}
        return TenantLimits(own, found["in_force"])

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        with told():
            response = self._client.request(method, path, **content)
        try:
            return response.json()
        except ValueError as error:
            raise CommandError(
                f"{self._client.base_url} does not answer like a Longhand server"
            ) from error
