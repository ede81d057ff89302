"""Refusals reach clients that are still sending."""

import socket
import time

import httpx
from starlette.types import Receive, Scope, Send

from api.intake.lingering_close import LingeringClose
from harness.servers.api_server import endless, open_upload, serving


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


def test_an_endless_sender_is_cut_off_and_still_gets_the_refusal() -> None:
    with serving(LingeringClose(refuse, linger_s=0.3)) as url:
        answer = httpx.post(url, content=endless(), timeout=60)
    assert (answer.status_code, answer.text) == (413, "no")


def test_the_refusal_goes_out_at_once_and_what_is_still_sent_is_not_answered_by_a_reset() -> None:
    with (
        serving(LingeringClose(refuse, linger_s=3600)) as url,
        open_upload(url, "Content-Length: 1000000000") as connection,
    ):
        answer = connection.recv(4096)  # before there is anything of the body
        for _ in range(20):
            connection.sendall(bytes(65_536))
            time.sleep(0.02)  # a slow sender: a reset would have time to arrive
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer


def test_a_sender_that_asks_first_is_refused_without_being_told_to_continue() -> None:
    with serving(LingeringClose(refuse, linger_s=3600)) as url:
        head = "Content-Length: 1000000\r\nExpect: 100-continue"
        with open_upload(url, head) as connection:
            answer = read_all(connection)  # nobody waits for what will not be sent
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer


def test_a_request_that_was_sent_whole_keeps_its_connection() -> None:
    with serving(LingeringClose(refuse)) as url, httpx.Client(timeout=60) as client:
        answer = client.get(url)
    assert "connection" not in answer.headers


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while data := connection.recv(4096):
        answer += data
    return answer
