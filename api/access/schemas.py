"""The bodies and answers of the endpoints for tenants, keys and tokens."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.store.accounts import (
    DEFAULT_TENANT,
    MAX_NAME_CHARS,
    NAME_PATTERN,
    TENANT_PATTERN,
)
from shared.store.accounts.keys import MAX_LIFETIME_S

ScopeName = Literal["jobs:write", "jobs:read", "jobs:priority", "live", "webhooks", "admin"]
"""As in ``shared.store.accounts.scopes``."""
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS, pattern=NAME_PATTERN)]
TenantId = Annotated[
    str, Field(pattern=TENANT_PATTERN, max_length=63, examples=["acme"], description="for ever")
]


class NewTenant(BaseModel):
    """A tenant to be made."""

    model_config = ConfigDict(extra="forbid")

    id: TenantId
    name: Name = Field(examples=["Acme Ltd"])


class TenantInfo(BaseModel):
    """A tenant."""

    id: str
    name: str
    created_at: datetime


class TenantList(BaseModel):
    """All tenants, by id."""

    tenants: list[TenantInfo]


class NewKey(BaseModel):
    """An API key to be made."""

    model_config = ConfigDict(extra="forbid")

    tenant: TenantId = Field(default=DEFAULT_TENANT, description="whose key it is")
    name: Name = Field(examples=["newsroom"], description="for people")
    scopes: list[ScopeName] = Field(
        min_length=1, examples=[["jobs:read", "jobs:write"]], description="what it opens"
    )
    expires_in_s: float | None = Field(
        default=None,
        gt=0,
        le=MAX_LIFETIME_S,
        examples=[7_776_000],
        description="when it expires, in seconds from now; omitted: never",
    )


class KeyInfo(BaseModel):
    """An API key, without the key itself."""

    id: UUID
    tenant: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="to the minute")
    revoked_at: datetime | None


class KeyWithSecret(KeyInfo):
    """A new API key."""

    key: str = Field(description="the key itself, which is not shown again")


class KeyList(BaseModel):
    """API keys, the oldest first."""

    keys: list[KeyInfo]


class SocketToken(BaseModel):
    """What opens one WebSocket."""

    token: str = Field(description="the second subprotocol of the WebSocket, after `longhand`")
    expires_in_s: int
