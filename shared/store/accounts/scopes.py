"""What a key may do."""

from enum import StrEnum


class Scope(StrEnum):
    """A part of the API that a key opens. None implies another."""

    JOBS_WRITE = "jobs:write"
    """Submit, cancel, retry and delete jobs, and measure them."""
    JOBS_READ = "jobs:read"
    """See jobs, transcripts, models, workers and the platform's state."""
    JOBS_PRIORITY = "jobs:priority"
    """Submit jobs with a priority above 0, which go before the tenant's others."""
    LIVE = "live"
    """Hold live sessions."""
    WEBHOOKS = "webhooks"
    """Add, see, change and remove webhooks and their deliveries."""
    ADMIN = "admin"
    """Make tenants, and keys of all tenants."""


ALL_SCOPES = frozenset(Scope)
