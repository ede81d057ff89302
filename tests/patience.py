"""How long the product's code in this process waits for others: the machine may stand still.

In production a request waits for Postgres for 5 s, and for Redis for less than one. Where a test
takes a server away, it waits as long; everywhere else a pause of the machine is no outage. For
clients and model workers it waits long in any case, but where a test says for how long.
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

_OF_SERVERS: list[tuple[ModuleType, str]] = [
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
    (recording, "JOB_LIMIT_S"),
    (transcriber, "_SEND_LIMIT_S"),
    (transcriber, "_PARTIAL_LIMIT_S"),
    (voices, "WAIT_S"),
    (workers, "_BLIND_S"),
    (health, "CHECK_LIMIT_S"),
    (health, "GLANCE_LIMIT_S"),
    (metrics, "SCRAPE_LIMIT_S"),
    (database, "_CONNECT_TIMEOUT_S"),
    (storage, "_CONNECT_TIMEOUT_S"),
    (broker, "_CONNECT_TIMEOUT_S"),
    (broker, "_SEND_TIMEOUT_S"),
    (keys, "CONNECT_TIMEOUT_S"),
    (keys, "SEND_TIMEOUT_S"),
    (keys, "PARTIAL_TTL_S"),
]
_OF_OTHERS: list[tuple[ModuleType, str]] = [
    (incoming, "STALL_S"),
    (outbox, "STALL_S"),
    (live_requests, "LATE_S"),
]
_IN_PRODUCTION = [getattr(module, name) for module, name in _OF_SERVERS]


def be_patient() -> None:
    """Have everything waited for long."""
    for module, name in [*_OF_SERVERS, *_OF_OTHERS]:
        setattr(module, name, LONG_S)


@contextmanager
def as_in_production() -> Iterator[None]:
    """Have servers waited for as long as in production, but what a test has set itself."""
    former = [getattr(module, name) for module, name in _OF_SERVERS]
    for (module, name), now, limit in zip(_OF_SERVERS, former, _IN_PRODUCTION, strict=True):
        if now == LONG_S:
            setattr(module, name, limit)
    try:
        yield
    finally:
        for (module, name), limit in zip(_OF_SERVERS, former, strict=True):
            setattr(module, name, limit)
