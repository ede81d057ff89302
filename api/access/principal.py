"""Who asks."""

from dataclasses import dataclass
from uuid import UUID

from shared.store.accounts import DEFAULT_TENANT
from shared.store.accounts.scopes import ALL_SCOPES


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose request this is, and what its credential opens."""

    tenant: str
    scopes: frozenset[str]
    key_id: UUID | None
    """Of an API key; None: a JWT, or authentication is off."""


ANYBODY = Principal(DEFAULT_TENANT, frozenset(map(str, ALL_SCOPES)), None)
"""Who asks where authentication is off."""
