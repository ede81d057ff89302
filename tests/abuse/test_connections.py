"""Clients that hold connections, send next to nothing, or take nothing of what they are sent."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from api import connections
from api.__main__ import max_connections
from api.rare_warnings import PERIOD_S
from api.server import LoopErrors
from harness.programs.workers import wait_until
from harness.servers import patient
from harness.servers.api_server import api_process, read_answer, serving
from shared.infra.open_files import OPEN_FILES
from shared.infra.settings import Settings

NOWHERE = Settings(
    database_url=SecretStr("postgresql+psycopg://nobody@127.0.0.1:1/none"),
    broker_url=SecretStr("redis://127.0.0.1:1/0"),
    storage_url=SecretStr("http://127.0.0.1:1/none"),
)
"""An API that can reach nothing still answers that it lives."""

BEGINNINGS = {
    "idle": b"",
    "half a head": b"GET /health/live HTTP/1.1\r\nHost: loc",
    "a head without its body": b"POST /webhooks HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n",
}


class Application:
    """Answers with the size of the body; ``/wait`` when it is told to, ``/flood`` for ever."""

    def __init__(self) -> None:
        self.released = False
        self.n_waiting = 0
        self.n_floods = self.n_flooded = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        n_bytes, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            n_bytes, more = n_bytes + len(message["body"]), message["more_body"]
        if scope["path"] == "/wait":
            self.n_waiting += 1
            while not self.released:
                await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/flood":
            await self._flood(receive, send)
            return
        await send({"type": "http.response.body", "body": str(n_bytes).encode()})

    async def _flood(self, receive: Receive, send: Send) -> None:
        self.n_floods += 1
        self.n_flooded += 1
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(8192), "more_body": True})
            await asyncio.sleep(0)
        self.n_floods -= 1


@contextmanager
def connected(url: str, first: bytes = b"", n: int = 1) -> Iterator[list[socket.socket]]:
    """Hold ``n`` connections that have sent these bytes."""
    address = ("127.0.0.1", httpx.URL(url).port or 0)
    with ExitStack() as stack:
        held = []
        for _ in range(n):
            connection = stack.enter_context(socket.create_connection(address, timeout=60))
            connection.sendall(first)
            held.append(connection)
        yield held


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    answer = b""
    while data := connection.recv(65_536):
        answer += data
    return answer


def request(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def test_clients_that_send_nothing_use_up_no_descriptors_and_keep_nobody_out(
    tmp_path: Path,
) -> None:
    log = tmp_path / "api.log"
    began = time.monotonic()
    with api_process(NOWHERE, log, open_files=256) as (client, _), ExitStack() as stack:
        client.get("/health/live").raise_for_status()
        base = str(client.base_url)
        for first in BEGINNINGS.values():
            stack.enter_context(connected(base, first, n=300))
            for _ in range(3):
                with connected(base, request("/health/live")) as [other]:
                    assert read_answer(other).startswith("200")
    lines = log.read_text().splitlines()
    about = [line for line in lines if "connections are open" in line]
    most = 1 + (time.monotonic() - began) // PERIOD_S
    assert 1 <= len(about) <= most, "a line for each connection"
    assert "128 connections are open, which is the limit" in about[0]
    assert not [line for line in lines if "open files" in line]


def test_the_limit_leaves_descriptors_for_what_is_not_a_client_s() -> None:
    assert max_connections(1024, 100) == 732
    assert max_connections(256, 100) == 128
    assert max_connections(OPEN_FILES, 100) > 7_800


def test_a_connection_at_work_is_not_closed_for_a_new_one_which_is_refused() -> None:
    app = Application()
    with serving(app, max_connections=2) as url:
        with connected(url, request("/wait"), n=2) as waiting:
            wait_until(lambda: app.n_waiting == 2)
            with connected(url) as [refused]:
                answer = read_answer(refused)
            app.released = True
            assert [read_answer(each).split()[0] for each in waiting] == ["200", "200"]
        assert answer.startswith("503\n")
        assert "retry-after: 5" in answer
        assert '"code": "too_many_connections"' in answer
        assert patient.get(url).status_code == 200


def test_the_connection_that_has_waited_longest_for_its_client_is_closed_first() -> None:
    with serving(Application(), max_connections=3) as url, connected(url, n=3) as held:
        for each in (held[2], held[0], held[1]):
            each.sendall(request("/"))
            assert read_answer(each).startswith("200")
        with connected(url, request("/")) as [newest]:
            assert read_answer(newest).startswith("200")
            assert held[2].recv(1) == b""
            for each in held[:2]:
                each.sendall(request("/"))
                assert read_answer(each).startswith("200")


@pytest.mark.parametrize(
    ("first", "answer"), [(b"", b""), (b"GET / HTT", b"HTTP/1.1 408 Request Timeout")]
)
def test_a_head_that_does_not_come_in_time_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch, first: bytes, answer: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    def told(url: str) -> bytes:
        with connected(url, first) as [held], suppress(ConnectionResetError):
            return read_all(held).partition(b"\r\n")[0]
        return b"reset"

    # The machine may stand still before the first byte is read, but not each time.
    with serving(Application()) as url:
        assert any(told(url) == answer for _ in range(4))


def test_the_head_of_a_later_request_has_the_same_time_and_the_pause_before_it_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(Application()) as url, connected(url, request("/")) as [held]:
        assert read_answer(held).startswith("200")
        monkeypatch.setattr(connections, "HEAD_S", 0.2)  # for what comes on this connection now
        held.sendall(request("/"))
        assert read_answer(held).startswith("200")
        held.settimeout(0.5)
        with pytest.raises(TimeoutError):
            held.recv(1)
        held.settimeout(60)
        held.sendall(b"GET / HTT")
        assert read_all(held).startswith(b"HTTP/1.1 408")


def test_an_answer_under_way_is_not_cut_by_half_a_head_behind_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Application()
    with serving(app) as url, connected(url, request("/")) as [held]:
        assert read_answer(held).startswith("200")
        monkeypatch.setattr(connections, "HEAD_S", 0.1)  # for what comes on this connection now
        held.sendall(request("/wait") + b"GET / HTT")
        held.settimeout(0.5)
        with pytest.raises(TimeoutError):
            held.recv(1)
        app.released = True
        held.settimeout(60)
        assert read_all(held).startswith(b"HTTP/1.1 200")


def _endless(first: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(100):
            connection.sendall(piece * (65_536 // len(piece)))

    return send


CHUNKED = request("/", "Transfer-Encoding: chunked").replace(b"GET", b"POST")


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (_endless(b"GET /?", b"x"), b"431"),
        (_endless(b"GET / HTTP/1.1\r\nX: ", b"x"), b"431"),
        (_endless(b"GET / HTTP/1.1\r\n", b"X: x\r\n"), b"431"),
        (_endless(CHUNKED, b"1\r\nx\r\n"), b"400"),
        (_endless(CHUNKED + b"1;", b"x"), b"400"),
        (_endless(CHUNKED + b"0\r\n", b"X: x\r\n"), b"400"),
    ],
    ids=["target", "header", "headers", "chunks", "extension", "trailers"],
)
def test_what_is_mostly_no_body_is_refused_within_a_few_reads(
    send: Callable[[socket.socket], None], status: bytes
) -> None:
    with serving(Application()) as url, connected(url) as [held]:
        with pytest.raises(OSError):
            send(held)
        with connected(url, request("/")) as [other]:
            assert read_answer(other).startswith("200")
    # The answer itself may be lost with the reset; of a small excess it arrives.
    with serving(Application()) as url, connected(url) as [held]:
        first = {b"431": b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000}
        held.sendall(first.get(status, CHUNKED + b"1\r\nx\r\n" * 20_000))
        assert read_all(held).startswith(b"HTTP/1.1 " + status)


def test_many_chunks_of_a_size_that_carries_something_are_taken() -> None:
    n_chunks = 20_000
    with serving(Application()) as url, connected(url) as [held]:
        held.sendall(CHUNKED + b"28\r\n" + bytes(40) + b"\r\n")  # 20 ms of speech as Opus
        held.sendall((b"28\r\n" + bytes(40) + b"\r\n") * (n_chunks - 1) + b"0\r\n\r\n")
        assert read_answer(held).endswith(str(40 * n_chunks))


def test_a_trailer_is_no_header() -> None:
    async def tell_headers(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        names = b",".join(name for name, _ in scope["headers"])
        head = {"type": "http.response.start", "headers": [(b"content-length", b"%d" % len(names))]}
        await send({**head, "status": 200})
        await send({"type": "http.response.body", "body": names})

    trailed = CHUNKED + b"1\r\nx\r\n0\r\nX-API-Key: key\r\nHost: evil.example\r\n\r\n"
    after = request("/", "Connection: close", "X-Next: 1")
    with serving(tell_headers) as url, connected(url, trailed + after) as [held]:
        answers = read_all(held)
    assert answers.count(b"host,transfer-encoding") == 1
    assert answers.endswith(b"host,connection,x-next")
    assert b"x-api-key" not in answers


def test_an_answer_of_which_nothing_is_taken_is_cut_and_one_that_is_taken_slowly_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_cut_alone(unread_s: float) -> bool:
        """Whether those that take nothing are cut, and one that takes something is not."""
        monkeypatch.setattr(connections, "UNREAD_S", unread_s)
        app = Application()
        with (
            serving(app) as url,
            connected(url, request("/flood"), n=4) as readers,
            suppress(ConnectionResetError),
        ):
            wait_until(lambda: app.n_flooded == 4)
            slow, *_ = readers
            deadline = time.monotonic() + 20 * unread_s
            while app.n_floods > 1:
                assert time.monotonic() < deadline, "nobody was cut"
                slow.recv(1_000_000)
                time.sleep(0.05)
            until = time.monotonic() + 1.5 * unread_s
            while slow.recv(1_000_000):
                if time.monotonic() > until:
                    return True
                time.sleep(0.05)
        return False

    # Where the machine stands still for the first time, the slow one is cut, too.
    assert is_cut_alone(1.0) or is_cut_alone(8.0)


def test_a_lack_of_descriptors_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle, loop = LoopErrors(), asyncio.new_event_loop()
    context: dict[str, Any] = {"exception": OSError(errno.EMFILE, "Too many open files")}
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            handle(loop, context)
        handle(loop, {"message": "another error"})
    loop.close()
    assert [record.message for record in caplog.records] == [
        "no connection can be accepted: Too many open files",
        "another error",
    ]
