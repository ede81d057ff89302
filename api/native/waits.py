"""Waiting for a job's end, for as long as the client stays."""

import asyncio
from contextlib import suppress

from fastapi import Request

from api.native.disconnection import while_connected
from api.native.snapshots import JobKey, Snapshot, Snapshots
from api.watch import Watcher


async def at_its_end(
    request: Request, watcher: Watcher, loader: Snapshots, key: JobKey, wait_s: float | None
) -> Snapshot:
    """Return the job once it has ended, or as it is after ``wait_s`` or when the server stops.

    With no ``wait_s`` it is waited for as long as the client stays.

    Raises:
        JobNotFound: there is no such job for this tenant, or it was deleted.
        TooManyStreams: as many clients as may are watching jobs.
        TooManyAtOnce: as many clients of the tenant are.
        ClientDisconnect: the client has left first.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with watcher.watch(key.job_id, key.tenant) as watch:
        snapshot = await loader.get(key._replace(with_waiting=False))
        if snapshot.view.ended:
            return snapshot
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await while_connected(request, watch.news(snapshot.view.last_event, ended=True))
    return await loader.get(key)
