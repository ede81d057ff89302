"""How long the product's code in this process waits for servers: the machine may stand still.

In production a request waits for Postgres for 5 s, and for Redis for less than one. Where a test
takes a server away, that is waited for as long; everywhere else a pause of the machine is no
outage.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from api import loader, resources
from api.access import jwt, page_sessions, socket_tokens
from api.limits import refreshed, requests
from api.live import checkpoints, incoming, outbox, recording, transcriber, voices
from api.native import health, metrics
from shared.infra import database, storage
from shared.queue import broker
from shared.queue.live import keys

LONG_S = 60.0

_LIMITS: list[tuple[ModuleType, str]] = [
    (resources, "_ANSWER_S"),
    (resources, "_STORAGE_READ_TIMEOUT_S"),
    (loader, "LIMIT_S"),
    (jwt, "_LIMIT_S"),
    (page_sessions, "_LIMIT_S"),
    (socket_tokens, "_LIMIT_S"),
    (refreshed, "FIRST_WAIT_S"),
    (refreshed, "WAIT_S"),
    (requests, "_LIMIT_S"),
    (checkpoints, "_LIMIT_S"),
    (incoming, "STALL_S"),
    (outbox, "STALL_S"),
    (recording, "JOB_LIMIT_S"),
    (transcriber, "_SEND_LIMIT_S"),
    (transcriber, "_PARTIAL_LIMIT_S"),
    (voices, "WAIT_S"),
    (health, "CHECK_LIMIT_S"),
    (health, "GLANCE_LIMIT_S"),
    (metrics, "SCRAPE_LIMIT_S"),
    (database, "_CONNECT_TIMEOUT_S"),
    (database, "_POOL_TIMEOUT_S"),
    (storage, "_CONNECT_TIMEOUT_S"),
    (broker, "_CONNECT_TIMEOUT_S"),
    (broker, "_SEND_TIMEOUT_S"),
    (keys, "CONNECT_TIMEOUT_S"),
    (keys, "SEND_TIMEOUT_S"),
    (keys, "PARTIAL_TTL_S"),
]
_IN_PRODUCTION = [getattr(module, name) for module, name in _LIMITS]

_SERVERS: dict[tuple[ModuleType, str], str] = {
    (resources, "_ANSWER_S"): "database_url",
    (loader, "LIMIT_S"): "database_url",
    (refreshed, "FIRST_WAIT_S"): "database_url",
    (refreshed, "WAIT_S"): "database_url",
    (database, "_CONNECT_TIMEOUT_S"): "database_url",
    (database, "_POOL_TIMEOUT_S"): "database_url",
    (resources, "_STORAGE_READ_TIMEOUT_S"): "storage_url",
    (storage, "_CONNECT_TIMEOUT_S"): "storage_url",
    (page_sessions, "_LIMIT_S"): "broker_url",
    (socket_tokens, "_LIMIT_S"): "broker_url",
    (requests, "_LIMIT_S"): "broker_url",
    (broker, "_CONNECT_TIMEOUT_S"): "broker_url",
    (broker, "_SEND_TIMEOUT_S"): "broker_url",
    (keys, "CONNECT_TIMEOUT_S"): "broker_url",
    (keys, "SEND_TIMEOUT_S"): "broker_url",
}
"""Whom those concern that concern one server alone: the setting that has its URL."""


def be_patient() -> None:
    """Have everything waited for long."""
    for module, name in _LIMITS:
        setattr(module, name, LONG_S)


@contextmanager
def as_in_production(server: str | None = None) -> Iterator[None]:
    """Have everything waited for as long as in production, but what a test has set itself.

    With ``server``, the setting that has its URL, the other servers are still waited for long.
    """
    former = [getattr(module, name) for module, name in _LIMITS]
    for (module, name), now, limit in zip(_LIMITS, former, _IN_PRODUCTION, strict=True):
        if now == LONG_S and server in (None, _SERVERS.get((module, name), server)):
            setattr(module, name, limit)
    try:
        yield
    finally:
        for (module, name), limit in zip(_LIMITS, former, strict=True):
            setattr(module, name, limit)
