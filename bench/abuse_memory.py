"""What abuse leaves in the API's memory, and whether Python or the C library's allocator holds it.

``python -m bench.abuse_memory [ROUNDS]``. Each round sends uploads that are cut off, uploads that
are refused, invalid requests with large heads and bodies, and streams that come and go. Resident
memory is printed after each round; at the end also what a collection and ``malloc_trim`` give back.
What the API says itself is how much the allocator has given out, and how much it keeps.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.platform import ROOT
from cli.embedded.servers import running_servers

UPLOADS = 48
UPLOAD_BYTES = 24 * 1024**2
REQUESTS = 1_500
STREAMS = 300
SERVE = "from bench.abuse_memory import serve; serve()"


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of <malloc.h>."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def serve() -> None:
    """Run the API.

    SIGUSR1 has it collect garbage, SIGUSR2 call ``malloc_trim``, SIGALRM say what is allocated.
    """
    from api.__main__ import main

    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo

    def tell(*_: object) -> None:
        info = libc.mallinfo2()
        given_out, kept = (info.uordblks + info.hblkhd) / 2**20, info.fordblks / 2**20
        print(f"{'':<12}{given_out:>8.1f} MiB given out, {kept:.1f} MiB kept", flush=True)

    signal.signal(signal.SIGUSR1, lambda *_: print("garbage:", gc.collect(), flush=True))
    signal.signal(signal.SIGUSR2, lambda *_: libc.malloc_trim(0))
    signal.signal(signal.SIGALRM, tell)
    main()


def run(rounds: int = 4) -> None:
    """Print resident memory after each round."""
    with tempfile.TemporaryDirectory() as folder, running_servers(Path(folder)) as endpoints:
        listener = socket.create_server(("127.0.0.1", 0))
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "--fd", str(listener.fileno())],
            pass_fds=[listener.fileno()],
            cwd=ROOT,
            env=os.environ
            | endpoints.env()
            | {"LONGHAND_ON_DEMAND_MODELS": "starter,whisper-base", "LONGHAND_LOG_LEVEL": "ERROR"},
        )
        try:
            port = listener.getsockname()[1]
            httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=120)
            show(process, "idle")
            for number in range(1, rounds + 1):
                asyncio.run(_abuse(port))
                time.sleep(3)
                show(process, f"round {number}")
            for signum, what in ((signal.SIGUSR1, "collected"), (signal.SIGUSR2, "trimmed")):
                process.send_signal(signum)
                time.sleep(2)
                show(process, what)
        finally:
            process.terminate()
            process.wait()


def show(api: subprocess.Popen[bytes], when: str) -> None:
    """Print the API's memory; many 64 MiB mappings are arenas of the allocator."""
    process = psutil.Process(api.pid)
    arenas = sum(
        1
        for line in Path(f"/proc/{api.pid}/maps").read_text().splitlines()
        if len(line.split()) == 5 and int(line.split("-")[0], 16) % (64 * 2**20) == 0
    )
    print(
        f"{when:<12}{process.memory_info().rss / 2**20:>8.0f} MiB resident,"
        f"{process.num_threads():>4} threads,{arenas:>4} arenas,"
        f"{sum(process.cpu_times()[:2]):>6.1f} s of CPU",
        flush=True,
    )
    api.send_signal(signal.SIGALRM)
    time.sleep(0.5)


async def _abuse(port: int) -> None:
    await _together((_upload(port, number) for number in range(UPLOADS)), 32)
    await _together((_nonsense(port, number) for number in range(REQUESTS)), 64)
    await _together((_stream(port) for _ in range(STREAMS)), STREAMS)


async def _together(work: Any, most: int) -> None:
    limit = asyncio.Semaphore(most)

    async def one(each: Coroutine[Any, Any, None]) -> None:
        async with limit:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.wait_for(each, 60)

    await asyncio.gather(*map(one, work))


async def _upload(port: int, number: int) -> None:
    """Send most of a large file; then leave, or end it, so that the form is invalid."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    writer.write(
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" % UPLOAD_BYTES
    )
    writer.write(head)
    left = UPLOAD_BYTES - len(head)
    while left > (2**20 if number % 2 else 0):
        n = min(left, 2**16)
        writer.write(os.urandom(n))
        left -= n
        await writer.drain()
    if number % 2 == 0:
        await reader.read(4096)
    writer.close()


async def _nonsense(port: int, number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    kinds = (
        b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % (b"a" * 50_000),
        b"POST /webhooks HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000,
        b"GET /jobs?cursor=%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        % (b"%00" * 5_000),
    )
    writer.write(kinds[number % len(kinds)])
    await reader.read(65_536)
    writer.close()


async def _stream(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = b"/jobs/0198c0de-0000-7000-8000-000000000000/events"
    writer.write(b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % path)
    await reader.read(65_536)
    writer.close()


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
