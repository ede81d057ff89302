"""Tenants and their API keys."""

DEFAULT_TENANT = "default"
"""It exists in every database. Without authentication everybody is this tenant."""

TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Of a tenant's id."""

MAX_LIMIT = 10**15
"""Of what a tenant may have: every language reads such numbers from JSON exactly."""
