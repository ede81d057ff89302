"""Tenants and their API keys."""

import re

from shared.infra.errors import InvalidRequest

DEFAULT_TENANT = "default"
"""It exists in every database. Without authentication everybody is this tenant."""

TENANT_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Of a tenant's id."""

MAX_LIMIT = 10**15
"""Of what a tenant may have: every language reads such numbers from JSON exactly."""

NAME_PATTERN = r"^[^\x00-\x1f\x7f]+$"
MAX_NAME_CHARS = 200
"""Of the name of a tenant or a key, which is for people."""


def check_name(name: str) -> None:
    """Check the name of a tenant or a key.

    Raises:
        InvalidRequest: it has another form than the above.
    """
    if len(name) > MAX_NAME_CHARS or not re.fullmatch(NAME_PATTERN, name):
        raise InvalidRequest(
            f"a name has 1 to {MAX_NAME_CHARS} characters, none of them a control character"
        )
