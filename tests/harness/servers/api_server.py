"""The API on a real socket for tests, and dependencies that can be cut off."""

import http.client
import re
import select
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import make_url
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from api.app import create_app, drain_sessions, end_waits
from api.live.hearer import Hearer
from api.live.transcriber import Transcriber
from api.server import Server, server_config
from harness.programs.forked import Forked
from harness.programs.workers import environment
from harness.servers.patience import as_in_production
from shared.infra.settings import Settings
from shared.infra.storage import Storage

PATIENT_API = Path(__file__).parent / "patient_api.py"

_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")

_ROUTES: dict[int, BaseRoute] = {}
"""The routes of each router, of the first application that had them."""


def share_routes(app: FastAPI) -> None:
    """Have applications share their routers' routes, which no setting changes.

    FastAPI prepares an application's routes with its first request, which takes twice as long as
    all the rest of its start and end, and longer than most tests.
    """
    for at, route in enumerate(app.router.routes):
        if (router := getattr(route, "original_router", None)) is not None:
            app.router.routes[at] = _ROUTES.setdefault(id(router), route)


def nothing() -> None:
    """What a server does when it stops that serves no streams."""


async def nobody() -> None:
    """What it does if it has no live sessions."""


@contextmanager
def serving(
    app: ASGIApp,
    *,
    grace_s: int = 5,
    max_connections: int = 1000,
    on_stop: Callable[[], None] = nothing,
    drain: Callable[[], Awaitable[None]] = nobody,
) -> Iterator[str]:
    """Serve an ASGI application on a free loopback port and yield its base URL."""
    if isinstance(app, FastAPI):
        share_routes(app)
    listener = socket.create_server(("127.0.0.1", 0))
    config = server_config(app, grace_s=grace_s)
    server = Server(config, on_stop, drain, max_connections=max_connections)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # The socket listens already: the first request waits until the application has started.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def confined(settings: Settings) -> Settings:
    """Return settings of the API's own role, which row-level security binds."""
    url = make_url(settings.database_url.get_secret_value()).set(username="longhand_api")
    return settings.model_copy(
        update={"database_url": SecretStr(url.render_as_string(hide_password=False))}
    )


@contextmanager
def api(
    settings: Settings, make_hearer: Callable[[Settings], Hearer] = Transcriber
) -> Iterator[httpx.Client]:
    """Serve the API, in its own role, and yield a client of it."""
    app = create_app(confined(settings), make_hearer)
    ends = {"on_stop": partial(end_waits, app), "drain": partial(drain_sessions, app)}
    with (
        serving(app, **ends) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


@contextmanager
def api_process(
    settings: Settings, log: Path, *, open_files: int = 0
) -> Iterator[tuple[httpx.Client, int]]:
    """Run ``python -m api``, forked, on an inherited socket; yield a client and the process id.

    ``open_files``: how many it may have at once; 0: any number.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = [str(open_files), "--fd", listener]
        env = environment(confined(settings))
        process = Forked(PATIENT_API, arguments, env=env, stdout=log)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=120) as client:  # its start may take long
            yield client, process.pid
        process.terminate()
        # Killed: by the test itself.
        assert process.wait(60) in (0, -signal.SIGTERM, -signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


def peak_memory(pid: int) -> int:
    """Return the most bytes that a process has held in memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Relay:
    """A TCP relay to a local port that can play dead: refusing, or taking and never answering.

    It takes connections of a ``listener``, by default one of its own on loopback.
    """

    def __init__(self, target: int, listener: socket.socket | None = None) -> None:
        self._target = target
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._mute = False
        self.swallowed = False
        """Whether somebody has said something since it is mute."""
        self._away = False
        self._lost: list[bytes] = []
        self._loser: socket.socket | None = None
        """The connection that has begun to say what is to be lost."""
        self._closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Refuse all connections from now on and break the present ones."""
        self._closed.set()
        # shutdown wakes the accepting thread, which close alone would not.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def go_away(self) -> None:
        """Break the present connections and every new one, until ``come_back``."""
        self._away = True
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        """Relay new connections again."""
        self._away = False

    def lead_to(self, target: int) -> None:
        """Relay new connections to another local port."""
        self._target = target

    def mute(self) -> None:
        """Accept and swallow everything from now on."""
        self._mute = True

    def lose_answer(self, *said: bytes) -> None:
        """Break the connection that says these things, in order, when the last is answered."""
        self._loser = None
        self._lost = list(said)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._away:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # it has gone away meanwhile
                near.close()
                continue
            self._open += [near, far]
            if self._closed.is_set() or self._away:  # in the same moment
                near.close()
                far.close()
                continue
            threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, suppress(OSError):
            while True:
                for readable in select.select([near, far], [], [])[0]:
                    data = readable.recv(65_536)
                    if not data:
                        return
                    if self._mute:
                        self.swallowed = True
                        continue
                    if readable is near:
                        far.sendall(data)
                        # Others may say the last of it meanwhile: they commit as well.
                        while self._lost and self._lost[0] in data and self._loser in (None, near):
                            self._loser = near
                            del self._lost[0]
                            if not self._lost:
                                far.recv(65_536)
                                return
                    else:
                        near.sendall(data)


@contextmanager
def relayed(settings: Settings, name: str) -> Iterator[tuple[Settings, Relay]]:
    """Do as ``rerouted``. What misses this server gives up as soon as in production."""
    with as_in_production(name), rerouted(settings, name) as (changed, relay):
        yield changed, relay


@contextmanager
def rerouted(settings: Settings, name: str) -> Iterator[tuple[Settings, Relay]]:
    """Yield settings whose URL ``name`` goes through a relay, and the relay.

    A server that only ever refuses is missed at once, so nobody need be as quick as in production.
    """
    url = getattr(settings, name).get_secret_value()
    found = _PORT.search(url)
    assert found is not None
    relay = Relay(int(found[0]))
    changed = SecretStr(_PORT.sub(str(relay.port), url))
    try:
        yield settings.model_copy(update={name: changed}), relay
    finally:
        relay.cut()


def open_upload(base_url: str, head: str) -> socket.socket:
    """Connect and send the head of a ``POST /jobs`` with multipart boundary ``b``."""
    _, _, port = base_url.rstrip("/").rpartition(":")
    connection = socket.create_connection(("127.0.0.1", int(port)), timeout=60)
    connection.sendall(
        (
            "POST /jobs HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: multipart/form-data; boundary=b\r\n{head}\r\n\r\n"
        ).encode()
    )
    return connection


def read_answer(connection: socket.socket) -> str:
    """Read one response, head and body; the connection may stay open."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    head = "".join(f"{name.lower()}: {value}\n" for name, value in response.getheaders())
    return f"{response.status}\n{head}\n{response.read().decode()}"


def part(name: str, value: str | None = None) -> bytes:
    """Return a field's part or, without a value, the beginning of a file's part."""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"'
    if value is None:
        return f'{head}; filename="a.wav"\r\n\r\n'.encode()
    return f"{head}\r\n\r\n{value}\r\n".encode()


def endless() -> Iterator[bytes]:
    """Yield a form whose file never ends."""
    yield part("file")
    while True:
        yield bytes(65_536)


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem of this kind, complete in form, and return it."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


def stored(storage: Storage) -> set[str]:
    """Return the keys of all objects, unfinished uploads included."""
    s3, bucket = storage._client, storage._bucket
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = {found["Key"] for page in pages for found in page.get("Contents", [])}
    try:
        unfinished = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    except s3.exceptions.NoSuchUpload:
        unfinished = []  # rclone's way of saying that there never was one
    return keys | {f"unfinished {upload['Key']} {upload['UploadId']}" for upload in unfinished}
