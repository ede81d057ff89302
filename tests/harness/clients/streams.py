"""A job's events as a client reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from httpx_sse import EventSource, ServerSentEvent, connect_sse

HISTORY = ("state", "segments")
"""The events that have an id; ``progress`` is the present and has none."""


@contextmanager
def events_of(
    client: httpx.Client, job_id: UUID, after: str = "", *, timeout_s: float = 60
) -> Iterator[EventSource]:
    headers = {"Last-Event-ID": after} if after else {}
    url = f"/jobs/{job_id}/events"
    with connect_sse(client, "GET", url, headers=headers, timeout=timeout_s) as source:
        yield source


def read_all(client: httpx.Client, job_id: UUID, after: str = "") -> list[ServerSentEvent]:
    """Read a stream to its end."""
    with events_of(client, job_id, after) as source:
        return [event for event in source.iter_sse() if event.event in (*HISTORY, "progress")]


def history(events: list[ServerSentEvent]) -> list[tuple[str, str, str]]:
    return [(event.id, event.event, event.data) for event in events if event.event in HISTORY]


def read_until(lines: Iterator[str], what: str) -> list[str]:
    """Read lines up to one that has ``what`` in it; return those before it that say something."""
    passed = []
    for line in lines:
        if what in line:
            return passed
        if line.startswith("data:"):
            passed.append(line)
    raise AssertionError(f"the stream ended before {what}")
