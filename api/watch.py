"""Waiting for what happens to jobs, on behalf of all who wait in this process.

Thousands of clients may wait at once. None of them holds a thread or a connection to Postgres: one
task looks at those jobs of which there are news (``shared.store.news``), and wakes who waits for
them. News may get lost, so every few seconds it looks at all jobs that somebody waits for.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from shared.infra.errors import DatabaseUnavailable, TooManyStreams
from shared.store.events import Glimpse

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
"""Between two looks at all jobs: how late lost news are."""

Look = Callable[[Iterable[UUID]], dict[UUID, Glimpse]]


class _Watched:
    """A job that somebody waits for, and what was last seen of it."""

    def __init__(self) -> None:
        self.n_watches = 0
        self.seen: Glimpse | None = None
        self.gone = False
        """Whether the job does not exist any more."""
        self._changed = asyncio.Event()

    def update(self, found: Glimpse | None) -> None:
        if found is None:
            self.gone = True
        elif found == self.seen:
            return
        self.seen = found
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        await self._changed.wait()


class Watch:
    """The right to wait for a job."""

    def __init__(self, watcher: "Watcher", watched: _Watched) -> None:
        self._watcher = watcher
        self._watched = watched

    async def news(self, after: int, *, ended: bool = False) -> bool:
        """Wait until the job has an event after the one named, or does not exist any more.

        With ``ended``, until it has ended since. Returns False, at once, when the server stops.
        """
        watched = self._watched
        while not self._watcher.stopped:
            seen = watched.seen
            if watched.gone:
                return True
            # Events' ids grow, so nothing seen before the caller looked can end the wait.
            if seen is not None and seen.last_event > after and (seen.ended or not ended):
                return True
            await watched.changed()
        return False


class Watcher:
    """Watches jobs on behalf of clients. For use on the event loop only: nothing is locked."""

    def __init__(self, look: Look, *, max_watches: int, interval_s: float = INTERVAL_S) -> None:
        """Make an idle watcher.

        Args:
            look: tells how far jobs are; called in a thread of its own.
            max_watches: how many may wait at once; past that they are refused, not queued.
            interval_s: between two looks at all jobs.
        """
        self._look = look
        self._max_watches = max_watches
        self._interval_s = interval_s
        self._threads = CapacityLimiter(1)
        self._watched: dict[UUID, _Watched] = {}
        self._n_watches = 0
        self._changed: set[UUID] = set()
        self._told = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self.stopped = False

    def tell(self, job_ids: Iterable[UUID]) -> None:
        """Look at those of these jobs that are watched: they have changed."""
        changed = self._watched.keys() & set(job_ids)
        if changed:
            self._changed |= changed
            self._told.set()

    @contextmanager
    def watch(self, job_id: UUID) -> Iterator[Watch]:
        """Watch a job while the block runs; whether there is such a job is for the caller to see.

        Raises:
            TooManyStreams: as many as may are watching.
        """
        if self._n_watches == self._max_watches:
            raise TooManyStreams(
                f"{self._max_watches} clients are watching jobs, which is the limit "
                "(LONGHAND_MAX_STREAMS)"
            )
        watched = self._watched.setdefault(job_id, _Watched())
        watched.n_watches += 1
        self._n_watches += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="watcher")
        try:
            yield Watch(self, watched)
        finally:
            self._n_watches -= 1
            watched.n_watches -= 1
            if watched.n_watches == 0:
                del self._watched[job_id]

    def stop(self) -> None:
        """End all waits, those to come included: the server stops, and clients come back."""
        self.stopped = True
        for watched in self._watched.values():
            watched.wake()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_look = loop.time()
        while self._watched and not self.stopped:
            changed, self._changed = self._changed, set()
            self._told.clear()
            if loop.time() >= next_look:
                await self._look_at(list(self._watched))
                next_look = loop.time() + self._interval_s
            elif changed:
                await self._look_at(list(changed))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_look):
                    await self._told.wait()

    async def _look_at(self, job_ids: list[UUID]) -> None:
        try:
            found = await to_thread.run_sync(
                self._look, job_ids, limiter=self._threads, abandon_on_cancel=True
            )
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            if not self._failing:
                log.warning("%s: those who watch jobs see no news for now", error)
            self._failing = True
            return
        self._failing = False
        for job_id in job_ids:
            watched = self._watched.get(job_id)
            if watched is not None:
                watched.update(found.get(job_id))
