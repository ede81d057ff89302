"""Waiting for news of jobs, on behalf of all clients of this process.

Thousands of clients may wait at once, without a thread or a connection to Postgres each: news of
jobs (``shared.store.news``) wake the clients that wait for them. News may get lost, so every few
seconds one task looks at all jobs that clients wait for.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from api.limits.places import Places
from shared.infra.errors import DatabaseUnavailable, TooManyStreams
from shared.store.news import Glimpse, News

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
"""Between two looks: how late lost news may come."""

Look = Callable[[Collection[UUID]], News]


class Watch:
    """A job that clients wait for, and what was last seen of it."""

    def __init__(self, *, stopped: bool) -> None:
        self.n_clients = 0
        self._stopped = stopped
        self._seen: Glimpse | None = None
        self._gone = False
        """Whether the job was deleted."""
        self._changed = asyncio.Event()

    async def news(self, after: int, *, ended: bool = False) -> bool:
        """Wait until the job has an event after the one named, or is deleted.

        With ``ended``, until it has ended since. Returns False, at once, when the server stops.
        """
        while not self._stopped:
            seen = self._seen
            # Events' ids grow, so nothing seen before the caller looked can end the wait.
            if self._gone or (
                seen is not None and seen.last_event > after and (seen.ended or not ended)
            ):
                return True
            await self._changed.wait()
        return False

    def update(self, found: Glimpse | None) -> None:
        """Take what is seen of the job now, None if it was deleted."""
        seen = self._seen
        if found is None or seen is None or found.last_event > seen.last_event:
            self._seen, self._gone = found, self._gone or found is None
            self._wake()

    def stop(self) -> None:
        """End all waits."""
        self._stopped = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Watcher:
    """Watches jobs on behalf of clients. For use on the event loop only: nothing is locked."""

    def __init__(self, look: Look, places: Places, *, interval_s: float = INTERVAL_S) -> None:
        """Make an idle watcher.

        Args:
            look: returns the state of jobs; called in a thread of its own.
            places: one for each client that waits.
            interval_s: between two looks.
        """
        self._look = look
        self._places = places
        self._interval_s = interval_s
        self._threads = CapacityLimiter(1)
        self._watched: dict[UUID, Watch] = {}
        self._any = asyncio.Event()
        self.n_told = 0
        """How often news came."""
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._stopped = False

    def tell(self, news: News) -> None:
        """Wake the clients that wait for news of these jobs, and those that wait for any."""
        self._wake_any()
        for job_id in self._watched.keys() & news.keys():
            self._watched[job_id].update(news[job_id])

    @contextmanager
    def watch(self, job_id: UUID, tenant: str) -> Iterator[Watch]:
        """Watch a job of a tenant while the block runs.

        The caller reads the job once it is watched, as earlier changes are no news.

        Raises:
            TooManyStreams: all places are taken.
            TooManyAtOnce: the tenant has its share of them.
        """
        with self._places.place(tenant, self._full):
            watched = self._watched.setdefault(job_id, Watch(stopped=self._stopped))
            watched.n_clients += 1
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run(), name="watcher")
            try:
                yield watched
            finally:
                watched.n_clients -= 1
                if watched.n_clients == 0:
                    del self._watched[job_id]

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """Hold a place for a client that waits for news of any job.

        Raises:
            TooManyStreams: all places are taken.
            TooManyAtOnce: the tenant has its share of them.
        """
        with self._places.place(tenant, self._full):
            yield

    async def any_news(self, after: int, limit_s: float) -> bool:
        """Wait until news came more often than ``after``, but not for longer than ``limit_s``.

        Returns False when the server stops.
        """
        if not self._stopped and self.n_told == after:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._any.wait(), limit_s)
        return not self._stopped

    def stop(self) -> None:
        """End all waits, also future ones: the server stops, and clients come back."""
        self._stopped = True
        self._wake_any()
        for watched in self._watched.values():
            watched.stop()

    def _wake_any(self) -> None:
        self.n_told += 1
        self._any.set()
        self._any = asyncio.Event()

    def _full(self) -> TooManyStreams:
        return TooManyStreams(
            f"{self._places.n_places} clients are watching jobs, which is the limit "
            "(LONGHAND_MAX_STREAMS)"
        )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            if not self._watched or self._stopped:
                return
            try:
                found = await to_thread.run_sync(
                    self._look, list(self._watched), limiter=self._threads, abandon_on_cancel=True
                )
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                if not self._failing:
                    log.warning("%s: those who watch jobs see no news for now", error)
                self._failing = True
            else:
                self._failing = False
                self.tell(found)
