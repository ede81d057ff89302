"""Share links."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.store.share_links import DEFAULT_S, LONGEST_S, SHORTEST_S


class NewShareLink(BaseModel):
    """A share link to be made."""

    model_config = ConfigDict(extra="forbid")

    expires_in_s: float = Field(
        default=DEFAULT_S,
        ge=SHORTEST_S,
        le=LONGEST_S,
        examples=[86_400],
        description="when it expires, in seconds from now; at most 90 days",
    )


class ShareLink(BaseModel):
    """A share link, without what opens it."""

    id: UUID
    created_at: datetime
    expires_at: datetime


class ShareLinkWithUrl(ShareLink):
    """A new share link."""

    url: str = Field(
        description="the link itself, which is not shown again; without the platform's public URL "
        "a path"
    )


class ShareLinkList(BaseModel):
    """A job's valid share links, the oldest first."""

    shares: list[ShareLink]
