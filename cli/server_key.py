"""The API key with which the command line asks a server."""

import os

VARIABLE = "LONGHAND_API_KEY"
"""There is no option for it: command lines are seen by all users of a machine."""


def key_headers() -> dict[str, str]:
    """Return the headers that carry the key; none where the environment has no key."""
    key = os.environ.get(VARIABLE, "").strip()
    return {"Authorization": f"Bearer {key}"} if key else {}
