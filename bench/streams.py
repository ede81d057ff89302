"""How soon those who watch jobs learn of a change: many open streams, each of another job.

A change is made by another API process than the one that has the streams, as it would be by a
worker. An event says when it was written, by the same machine's clock: from then on, the rest of
its transaction included, the time until the client has read it is counted.
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from datetime import datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty
from typing import Any

import httpx

from bench.apis import Api, Side, api, sides, submit

STREAMS = 480
CHANGES_PER_S = 40.0
"""Of all streams together: each job is canceled once."""
_ALL_OPEN_S = 120.0
_LAST_ARRIVAL_S = 30.0


def run(before: Path | None) -> None:
    """Print the delays of state events."""
    with sides(before) as compared:
        print(f"{STREAMS} streams, {CHANGES_PER_S:.0f} changes a second")
        print(f"{'ms, written to read':<28}{'events':>8}{'p50':>8}{'p99':>8}{'max':>8}{'CPU s':>8}")
        for side in compared:
            delays_ms, cpu_s = _measure(side)
            middle, longest = statistics.median(delays_ms), max(delays_ms)
            late = statistics.quantiles(delays_ms, n=100)[98]
            print(
                f"{side.name:<28}{len(delays_ms):>8}{middle:>8.0f}{late:>8.0f}{longest:>8.0f}"
                f"{cpu_s:>8.1f}",
                flush=True,
            )


def _measure(side: Side) -> tuple[list[float], float]:
    """Return the delays, and the seconds of a core that the streams' process spent on them."""
    with api(side) as watched, api(side) as changing:
        ids = submit(changing, STREAMS)
        context = multiprocessing.get_context("spawn")
        arrived: multiprocessing.Queue[float] = context.Queue()
        opened = context.Event()
        reader = context.Process(target=_read_all, args=(watched.port, ids, opened, arrived))
        reader.start()
        try:
            if not opened.wait(_ALL_OPEN_S):
                raise SystemExit("bench: the streams did not open")
            time.sleep(1)
            used_s = watched.cpu_s()
            _change(changing, ids)
            delays_ms = [1000 * arrived.get(timeout=_LAST_ARRIVAL_S) for _ in ids]
            return delays_ms, watched.cpu_s() - used_s
        except Empty:
            raise SystemExit("bench: events are missing") from None
        finally:
            reader.terminate()
            reader.join()


def _change(changing: Api, ids: Sequence[str]) -> None:
    began = time.monotonic()
    with httpx.Client(base_url=changing.url, timeout=60) as client:
        for n, job_id in enumerate(ids):
            time.sleep(max(0.0, began + n / CHANGES_PER_S - time.monotonic()))
            client.post(f"/jobs/{job_id}/cancel").raise_for_status()


def _read_all(
    port: int, ids: Sequence[str], opened: Event, arrived: "multiprocessing.Queue[float]"
) -> None:
    asyncio.run(_follow_all(port, ids, opened, arrived))


async def _follow_all(port: int, ids: Sequence[str], opened: Event, arrived: Any) -> None:
    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_follow(port, job_id, ready, arrived)) for job_id in ids]
    for _ in ids:
        await ready.acquire()
    opened.set()
    await asyncio.gather(*tasks)


async def _follow(port: int, job_id: str, ready: asyncio.Semaphore, arrived: Any) -> None:
    """Read a stream to its end; tell how late the last change of state came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    while line := await reader.readline():
        if not line.startswith(b'data: {"state":'):
            continue
        now = time.time()
        event = json.loads(line.removeprefix(b"data: "))
        if event["state"] == "queued":
            ready.release()
        else:
            arrived.put(now - datetime.fromisoformat(event["at"]).timestamp())
            break
    writer.close()
