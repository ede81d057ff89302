"""Calls of ``POST /transcribe`` for tests: made in threads, and left."""

import http.client
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.app import create_app, end_waits
from harness.programs.workers import wait_until
from harness.servers.api_server import part, serving
from shared.infra.settings import Settings

AUDIO = b"the audio of a call" * 100


def active_jobs(database: Engine) -> list[UUID]:
    """Return the jobs that are under way, oldest first."""
    with database.begin() as connection:
        return list(
            connection.execute(
                text("SELECT id FROM jobs WHERE state IN ('queued', 'running') ORDER BY id")
            ).scalars()
        )


def open_call(url: str) -> http.client.HTTPConnection:
    """Begin a call on a connection that can be closed."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    body = part("file") + AUDIO + b"\r\n--b--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=b"}
    connection.request("POST", "/transcribe", body, kind)
    return connection


@dataclass
class Caller:
    """Clients of one API, each in a thread."""

    app: FastAPI
    url: str
    client: httpx.Client
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def call(
        self, *, audio: bytes = AUDIO, wait: float | None = None, **fields: str
    ) -> "Future[httpx.Response]":
        """Begin a call."""
        query = {} if wait is None else {"wait": wait}
        return self.pool.submit(
            self.client.post,
            "/transcribe",
            params=query,
            data=fields,
            files={"file": ("a.wav", audio)},
        )

    def connect(self) -> http.client.HTTPConnection:
        """Begin a call on a connection that can be closed."""
        return open_call(self.url)

    def waiting(self) -> dict[UUID, int]:
        """Return how many clients wait for which job."""
        return dict(self.app.state.resources.calls._waiting)

    def only_job(self, database: Engine, *, clients: int = 1) -> UUID:
        """Return the one job under way, once so many clients wait for it."""
        wait_until(lambda: sum(self.waiting().values()) == clients)
        (job_id,) = active_jobs(database)
        return job_id

    def metric(self, line: str) -> bool:
        """Whether the metrics have this line."""
        return line in self.client.get("/metrics").text.splitlines()


@contextmanager
def calling(settings: Settings, **changes: Any) -> Iterator[Caller]:
    """Serve the API with changed settings and yield its clients."""
    app = create_app(settings.model_copy(update=changes))
    with (
        serving(app, on_stop=partial(end_waits, app)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        caller = Caller(app, url, client)
        assert client.get("/health/live").is_success, "the application has started"
        try:
            yield caller
        finally:
            end_waits(app)
            caller.pool.shutdown()
