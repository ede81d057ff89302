"""Who asks."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from shared.infra.errors import ScopeMissing
from shared.store.accounts import DEFAULT_TENANT
from shared.store.accounts.scopes import ALL_SCOPES, Scope


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose request this is, and what its credential opens."""

    tenant: str
    scopes: frozenset[str]
    key_id: UUID | None
    """Of an API key; None: a JWT, or authentication is off."""
    key_digest: bytes | None = field(default=None, repr=False)
    """SHA-256 of that key."""


ANYBODY = Principal(DEFAULT_TENANT, frozenset(map(str, ALL_SCOPES)), None)
"""Who asks where authentication is off."""

principal_of_request: ContextVar[Principal | None] = ContextVar("principal", default=None)
"""Who asks, for what is decided far from the route: ``authorize`` sets it."""


def check_priority(priority: int) -> None:
    """Check that who asks may submit a job of this priority.

    Raises:
        ScopeMissing: it is above 0, and their credential lacks the scope for that.
    """
    principal = principal_of_request.get()
    allowed = principal is not None and Scope.JOBS_PRIORITY in principal.scopes
    if priority > 0 and not allowed:
        raise ScopeMissing(
            f"a priority above 0 needs the scope {Scope.JOBS_PRIORITY}", Scope.JOBS_PRIORITY
        )
