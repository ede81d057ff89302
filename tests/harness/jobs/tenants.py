"""Tenants with limits and keys of their own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import uuid4

import httpx
from sqlalchemy import Engine

from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.accounts.tenants import create_tenant
from shared.store.limits import change_limits


@contextmanager
def asking(database: Engine, tenant: str, *urls: str) -> Iterator[list[httpx.Client]]:
    """Yield clients with a tenant's key, one for each address."""
    _, key = create_key(database, tenant, "a test's", ALL_SCOPES)
    with ExitStack() as stack:
        headers = {"Authorization": f"Bearer {key}"}
        yield [
            stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))
            for url in urls
        ]


@contextmanager
def asked_by(settings: Settings, database: Engine, tenant: str) -> Iterator[httpx.Client]:
    """Serve the API to a client that has a tenant's key."""
    with (
        api(settings.model_copy(update={"auth": "on"})) as server,
        asking(database, tenant, str(server.base_url)) as (client,),
    ):
        yield client


def add_tenant(database: Engine, **own: float) -> str:
    """Add a tenant with limits of its own, and return its id."""
    tenant = uuid4().hex
    create_tenant(database, tenant, tenant)
    change_limits(database, tenant, own)
    return tenant
