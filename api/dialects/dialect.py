"""What a dialect is made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from api.dialects.parameters import Operation
from api.faces import ErrorAnswer


@dataclass(frozen=True, slots=True)
class Dialect:
    """The API of another service."""

    name: str
    """The vendor's, for people."""
    prefixes: Sequence[str]
    """Of the paths whose errors it answers; the longest prefix of a path counts."""
    routes: APIRouter
    """Each declares what it demands (``api.access.routes``), and checks its own parameters."""
    answer_error: ErrorAnswer
    models: Sequence[str]
    """The vendor's names of models, as patterns: ``gpt-*``."""
    operations: Sequence[Operation]
    says: str = ""
    """What to set in a client, and how the dialect differs; Markdown."""
    sockets: APIRouter | None = None
    """WebSocket routes, which authenticate their clients themselves (``admit``)."""
