"""Uploads that send next to nothing, to keep others from uploading."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from api.intake.admission import MAX_LARGE
from api.intake.bodies import MIN_BYTES_S, read_upload
from harness.programs.workers import wait_until
from harness.servers.api_server import api, open_upload, part
from shared.infra.errors import UploadStalled
from shared.infra.settings import Settings

LARGE = "Content-Length: 1000000000"
MIB = 1024**2


@pytest.fixture(scope="module")
def client(module_settings: Settings) -> Iterator[httpx.Client]:
    with api(module_settings) as client:
        yield client


def post_large(client: httpx.Client, address: str = "127.0.0.1") -> int:
    """Post a large file from an address of this machine."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(transport=transport, base_url=client.base_url, timeout=60) as other:
        return other.post("/jobs", files={"file": ("a.wav", bytes(2 * MIB))}).status_code


def test_uploads_of_which_nothing_has_come_take_no_places(client: httpx.Client) -> None:
    with ExitStack() as stack:
        for _ in range(2 * MAX_LARGE):
            stack.enter_context(open_upload(str(client.base_url), LARGE))
        assert client.get("/health/live").status_code == 200  # after all of these heads
        assert post_large(client) == 202


def test_a_client_that_takes_its_share_leaves_places_to_others(client: httpx.Client) -> None:
    with ExitStack() as stack:
        for _ in range(2 * MAX_LARGE):
            connection = stack.enter_context(open_upload(str(client.base_url), LARGE))
            connection.sendall(part("file") + b"R")
        wait_until(lambda: post_large(client) == 503)
        assert post_large(client, "127.0.0.2") == 202
    wait_until(lambda: post_large(client) == 202)


class Sender:
    """A client that sends a piece of a size after a time, again and again."""

    def __init__(self, n_bytes: int, every_s: float, pieces: int) -> None:
        self.n_bytes, self._every_s, self._left = n_bytes, every_s, pieces

    async def receive(self) -> Message:
        await asyncio.sleep(self._every_s)
        self._left -= 1
        return {"type": "http.request", "body": bytes(self.n_bytes), "more_body": self._left > 0}


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever is due next."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now


def upload(sender: Sender) -> tuple[int, float]:
    """Read it all; return its size, and how long it took."""

    async def read() -> tuple[int, float]:
        request = Request({"type": "http", "method": "POST", "headers": []}, sender.receive)
        pieces = [len(piece) async for piece in read_upload(request, lambda _: None)]
        return sum(pieces), asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(read())


def test_a_byte_from_time_to_time_does_not_keep_an_upload_alive() -> None:
    with pytest.raises(UploadStalled, match="less than 1 KiB a second was received"):
        upload(Sender(n_bytes=1, every_s=20, pieces=3))


@pytest.mark.parametrize(
    ("n_bytes", "every_s"),
    [
        (40, 0.02),  # Opus at 16 kbit/s, as it is spoken
        (28 * MIN_BYTES_S, 28.0),  # in bursts
        (16_384, 0.131_072),  # 1 Mbit/s
    ],
)
def test_a_slow_upload_goes_on(n_bytes: int, every_s: float) -> None:
    pieces = round(300 / every_s)
    received, took_s = upload(Sender(n_bytes, every_s, pieces))
    assert received == n_bytes * pieces
    assert took_s == pytest.approx(300, abs=every_s)


def test_a_fast_beginning_is_no_excuse_for_what_follows() -> None:
    class Slowing(Sender):
        async def receive(self) -> Message:
            message = await super().receive()
            self.n_bytes = 1
            return message

    with pytest.raises(UploadStalled):
        upload(Slowing(n_bytes=1000 * MIB, every_s=1, pieces=100))
