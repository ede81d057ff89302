"""S3 requests by service, counted by a proxy between the services and the S3 server.

The command line gives its services the server's address in their environment. It is run by a
program here that puts the proxy's address in its place. Client and server see the same bytes, so
signatures stay valid.
"""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.platform import Platform, platform, services

_MAIN = """
import re
from cli.embedded.servers import Endpoints
from cli.main import main

def through_the_proxy(endpoints, env=Endpoints.env):
    address = re.sub(r"@127\\.0\\.0\\.1:[0-9]+", "@127.0.0.1:{port}", endpoints.storage_url)
    return env(endpoints) | {{"LONGHAND_STORAGE_URL": address}}

Endpoints.env = through_the_proxy
main()
"""
_HEAD_LIMIT_BYTES = 65_536
_COPY_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Request:
    """One request that a client sent."""

    port: int
    """The client's."""
    verb: str
    """Its method, and what of S3's it is: 'GET range', 'POST ?uploads'."""


@dataclass(slots=True)
class StorageLog:
    """What goes through the proxy."""

    data: Path
    """The platform's data directory."""
    port: int = 0
    sent_bytes: int = 0
    """Of bodies, from clients to the server; heads left out."""
    received_bytes: int = 0
    """From the server to clients; heads included."""
    _requests: list[Request] = field(default_factory=list)
    _ports: dict[int, str] = field(default_factory=dict)

    def read(self, running: Platform) -> list[tuple[str, str]]:
        """Return service and verb of what was sent since the last call, in order."""
        self._ports |= running.services_by_port()
        new, self._requests = self._requests, []
        return [(self._ports.get(request.port, "unknown"), request.verb) for request in new]

    async def serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        """Pass on one connection, and note its requests."""
        with suppress(OSError, asyncio.IncompleteReadError):
            server, request = await asyncio.open_connection("127.0.0.1", self._server_port())
            back = asyncio.create_task(self._pass_answers(server, answer))
            try:
                while True:
                    await self._pass_request(client, request, answer.get_extra_info("peername")[1])
            finally:
                request.close()
                await back

    def _server_port(self) -> int:
        # The supervisor's own arguments to it; it may be started anew elsewhere.
        command = " ".join(services(self.data)["rclone"].cmdline())
        found = re.search(r"--addr=127\.0\.0\.1:(\d+)", command)
        assert found, command
        return int(found[1])

    async def _pass_request(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, port: int
    ) -> None:
        head = await client.readuntil(b"\r\n\r\n")
        self._requests.append(Request(port, _verb(head)))
        server.write(head)
        await server.drain()
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        left = int(length[1]) if length else 0
        if re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
            # The client sees its connection close, the job fails, and the measurement with it.
            raise RuntimeError("an S3 request has no length")
        while left:
            part = await client.read(min(left, _COPY_BYTES))
            if not part:
                raise ConnectionResetError
            left -= len(part)
            self.sent_bytes += len(part)
            server.write(part)
            await server.drain()

    async def _pass_answers(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while part := await server.read(_COPY_BYTES):
                self.received_bytes += len(part)
                client.write(part)
                await client.drain()
        client.close()


def _verb(head: bytes) -> str:
    method, target = head.split(b" ", 2)[:2]
    query = sorted(part.partition("=")[0] for part in target.decode().partition("?")[2].split("&"))
    marks = [f"?{name}" for name in query if name in ("uploads", "uploadId", "delete", "list-type")]
    if re.search(rb"\r\nrange:", head, re.IGNORECASE):
        marks.append("range")
    return " ".join([method.decode(), *marks])


@contextmanager
def _proxy(log: StorageLog) -> Iterator[None]:
    """Serve in a thread of its own while the block runs."""
    loop = asyncio.new_event_loop()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(log.serve, "127.0.0.1", 0, limit=_HEAD_LIMIT_BYTES)

    server = loop.run_until_complete(listen())
    log.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@contextmanager
def platform_behind_proxy(
    tree: Path, folder: Path, model: str
) -> Iterator[tuple[Platform, StorageLog]]:
    """Run ``longhand up`` of a tree; its services reach the S3 server through the proxy."""
    log = StorageLog(folder / "data")
    with _proxy(log):
        program = ("-c", _MAIN.format(port=log.port))
        with platform(log.data, model, tree=tree, program=program) as running:
            yield running, log
