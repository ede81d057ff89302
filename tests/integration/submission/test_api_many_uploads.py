"""Many uploads at once: small ones wait for their turn; their bodies are not read meanwhile."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from api import resources
from api.app import create_app
from api.intake.admission import MAX_LARGE, MAX_SMALL, SMALL_BYTES
from harness.programs.workers import wait_until
from harness.servers.api_server import (
    api,
    api_process,
    assert_problem,
    confined,
    open_upload,
    part,
    peak_memory,
    read_answer,
    relayed,
    serving,
)
from harness.servers.patience import as_in_production
from shared.infra.settings import Settings

MIB = 1024**2
TWO_SECONDS = 64_000
"""Bytes of two seconds of 16 kHz WAV."""

pytestmark = pytest.mark.usefixtures("database")


def test_small_files_posted_by_many_clients_at_once_are_all_accepted(settings: Settings) -> None:
    together = threading.Barrier(100)

    def post(_: int) -> int:
        with httpx.Client(base_url=base, timeout=60) as client:
            together.wait(60)
            answer = client.post("/jobs", files={"file": ("a.wav", os.urandom(TWO_SECONDS))})
        return answer.status_code

    with api(settings) as client, ThreadPoolExecutor(100) as clients:
        base = str(client.base_url)
        statuses = [*clients.map(post, range(100))]
    assert statuses == [202] * 100


def begin_small(base: str, n: int) -> list[socket.socket]:
    """Begin small uploads, which have their places or wait for them."""
    connections = [open_upload(base, f"Content-Length: {SMALL_BYTES}") for _ in range(n)]
    for connection in connections:
        connection.sendall(part("file"))
    return connections


def test_a_small_upload_waits_until_one_of_those_under_way_is_over(settings: Settings) -> None:
    app = create_app(confined(settings))
    with (
        serving(app) as base,
        httpx.Client(base_url=base, timeout=60) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        client.get("/health/live").raise_for_status()  # the application has started
        slow = begin_small(base, MAX_SMALL // 2)  # the share of one client
        try:
            places = app.state.resources.intake.admission._small
            wait_until(lambda: places._held.total() == len(slow))
            waiting = threads.submit(
                httpx.post, f"{base}/jobs", files={"file": ("a.wav", b"audio")}, timeout=60
            )
            # The server answers others meanwhile; the upload has come and has no place.
            for _ in range(5):
                assert client.get("/health/live").status_code == 200
            assert not waiting.done()
            slow.pop().close()
            assert waiting.result(60).status_code == 202
        finally:
            for connection in slow:
                connection.close()


def test_a_large_upload_past_the_limit_is_refused_at_once_and_small_ones_are_taken(
    settings: Settings,
) -> None:
    with api(settings) as client:
        base = str(client.base_url)
        slow = [open_upload(base, f"Content-Length: {9 * MIB}") for _ in range(MAX_LARGE)]
        try:
            for connection in slow:
                connection.sendall(part("file"))

            def refused() -> str | None:
                with open_upload(base, f"Content-Length: {9 * MIB}") as connection:
                    connection.settimeout(0.5)
                    try:
                        return read_answer(connection)
                    except TimeoutError:
                        return None

            answer = wait_until(refused)
            assert answer is not None
            assert answer.startswith("503\n")
            assert "too_many_uploads" in answer
            assert "retry-after: 5" in answer
            small = client.post("/jobs", files={"file": ("a.wav", b"audio")})
            assert small.status_code == 202, small.text
        finally:
            for connection in slow:
                connection.close()


def test_a_waiting_upload_s_body_is_not_read(settings: Settings, tmp_path: Path) -> None:
    with api_process(settings, tmp_path / "api.log") as (client, pid):
        client.get("/ready").raise_for_status()
        base = str(client.base_url)
        first = begin_small(base, MAX_SMALL // 2)
        before = peak_memory(pid)
        waiting = [open_upload(base, f"Content-Length: {SMALL_BYTES}") for _ in range(100)]
        try:
            for connection in waiting:
                connection.setblocking(False)  # what the system takes, and no more
                sent = connection.send(part("file") + bytes(SMALL_BYTES))
                assert sent > 0
            for _ in range(5):
                assert client.get("/health/live").status_code == 200
            assert peak_memory(pid) - before < len(waiting) * MIB // 2
        finally:
            for connection in (*first, *waiting):
                connection.close()


def test_a_frozen_object_store_is_told_without_waiting_for_the_cleanup(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.resources._STORAGE_READ_TIMEOUT_S", 1.0)
    with relayed(settings, "storage_url") as (frozen, relay), api(frozen) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        with open_upload(str(client.base_url), "Transfer-Encoding: chunked") as connection:
            body = part("file") + bytes(20 * MIB)
            relay.mute()
            connection.sendall(b"%x\r\n%b\r\n" % (len(body), body))
            end = b"\r\n--b--\r\n"
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
            answer = read_answer(connection)
        assert answer.startswith("503\n")
        assert "storage_unavailable" in answer
        assert_problem(
            client.post("/jobs", files={"file": ("a.wav", b"audio")}), 503, "storage_unavailable"
        )
        relay.cut()


def test_a_frozen_object_store_fails_a_request_of_the_api_within_ten_seconds() -> None:
    longest_pause_s = 1.0  # botocore's before the second attempt
    assert resources._STORAGE_ATTEMPTS == 2
    with as_in_production():
        each_s = resources._STORAGE_READ_TIMEOUT_S
        assert resources._STORAGE_ATTEMPTS * each_s + longest_pause_s < 10
