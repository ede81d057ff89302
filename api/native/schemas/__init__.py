"""The bodies and answers of the API, as its OpenAPI document shows them."""

from dataclasses import fields
from typing import Any


def members(view: Any) -> dict[str, Any]:
    """Return a dataclass's members and their values, which are not copied."""
    return {field.name: getattr(view, field.name) for field in fields(view)}
