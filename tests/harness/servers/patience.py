"""How long the product's code in this process waits for others: the machine may stand still.

In production a request waits for Postgres for 5 s, and for Redis for less than one. Where a test
takes a server away, that is waited for as long; everywhere else a pause of the machine is no
outage. For clients and model workers it waits long in any case, but where a test says for how long.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from api import loader, resources
from api.access import jwt, page_sessions, socket_tokens
from api.limits import refreshed, requests
from api.live import checkpoints, incoming, outbox, recording, transcriber, voices, workers
from api.live import requests as live_requests
from api.native import health, metrics
from shared.infra import database, storage
from shared.queue import broker
from shared.queue.live import keys

LONG_S = 60.0

_DATABASE, _STORAGE, _BROKER = "database_url", "storage_url", "broker_url"
_SEVERAL = ""

_OF_SERVERS: list[tuple[ModuleType, str, str]] = [
    (resources, "_ANSWER_S", _DATABASE),
    (loader, "LIMIT_S", _DATABASE),
    (refreshed, "FIRST_WAIT_S", _DATABASE),
    (refreshed, "WAIT_S", _DATABASE),
    (database, "_CONNECT_TIMEOUT_S", _DATABASE),
    (database, "_POOL_TIMEOUT_S", _DATABASE),
    (resources, "_STORAGE_READ_TIMEOUT_S", _STORAGE),
    (storage, "_CONNECT_TIMEOUT_S", _STORAGE),
    (page_sessions, "_LIMIT_S", _BROKER),
    (socket_tokens, "_LIMIT_S", _BROKER),
    (requests, "_LIMIT_S", _BROKER),
    (broker, "_CONNECT_TIMEOUT_S", _BROKER),
    (broker, "_SEND_TIMEOUT_S", _BROKER),
    (keys, "CONNECT_TIMEOUT_S", _BROKER),
    (keys, "SEND_TIMEOUT_S", _BROKER),
    (keys, "POP_TIMEOUT_S", _BROKER),
    (jwt, "_LIMIT_S", _SEVERAL),
    (checkpoints, "_LIMIT_S", _SEVERAL),
    (recording, "JOB_LIMIT_S", _SEVERAL),
    (transcriber, "_SEND_LIMIT_S", _SEVERAL),
    (transcriber, "_PARTIAL_LIMIT_S", _SEVERAL),
    (voices, "WAIT_S", _SEVERAL),
    (workers, "_BLIND_S", _SEVERAL),
    (health, "CHECK_LIMIT_S", _SEVERAL),
    (health, "GLANCE_LIMIT_S", _SEVERAL),
    (metrics, "SCRAPE_LIMIT_S", _SEVERAL),
    (keys, "PARTIAL_TTL_S", _SEVERAL),
]
"""Limits, each with the setting that has its server's URL, or ``_SEVERAL``: no server's alone."""
_OF_OTHERS: list[tuple[ModuleType, str]] = [
    (incoming, "STALL_S"),
    (outbox, "STALL_S"),
    (live_requests, "LATE_S"),
]
_IN_PRODUCTION = [getattr(module, name) for module, name, _ in _OF_SERVERS]


def be_patient() -> None:
    """Have everything waited for long."""
    for module, name in [*((module, name) for module, name, _ in _OF_SERVERS), *_OF_OTHERS]:
        setattr(module, name, LONG_S)


@contextmanager
def as_in_production(server: str | None = None) -> Iterator[None]:
    """Have servers waited for as long as in production, but what a test has set itself.

    With ``server``, the setting that has its URL, the limits of each other server stay long.
    """
    former = [getattr(module, name) for module, name, _ in _OF_SERVERS]
    for (module, name, its), now, limit in zip(_OF_SERVERS, former, _IN_PRODUCTION, strict=True):
        if now == LONG_S and (server is None or its in (server, _SEVERAL)):
            setattr(module, name, limit)
    try:
        yield
    finally:
        for (module, name, _), limit in zip(_OF_SERVERS, former, strict=True):
            setattr(module, name, limit)
