"""Calls: clients that wait in this process for a transcript, and the word that they still do.

Every few seconds one task renews all jobs that clients of this process wait for. The sweeper
cancels a job that is not renewed (``shared.store.jobs.calls``), so nothing has to be done when a
client leaves or this process dies.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from api.limits.places import Places
from shared.infra.errors import DatabaseUnavailable, TooManyCalls

log = logging.getLogger(__name__)

_RENEWALS = 6
"""Renewals in the time for which a job goes on without its client."""

_LONGEST_INTERVAL_S = 10.0

_AGAIN_S = 1.0
"""Until the next try while Postgres is away: a sweeper that finds it back may cancel jobs."""

Renew = Callable[[Collection[UUID], float], None]
"""Has jobs wanted for so many seconds from now."""


class Calls:
    """The clients that wait. For use on the event loop only: nothing is locked."""

    def __init__(self, renew: Renew, *, places: Places, grace_s: float) -> None:
        """Make an idle one.

        Args:
            renew: called in a thread of its own.
            places: one for each client that waits.
            grace_s: how long a job goes on without its client.
        """
        self._renew = renew
        self._places = places
        self._interval_s = min(grace_s / _RENEWALS, _LONGEST_INTERVAL_S)
        # One renewal may come late.
        self.wanted_s = grace_s + 2 * self._interval_s
        """For how long a renewal has a job wanted: at least ``grace_s`` from any moment on."""
        self._threads = CapacityLimiter(1)
        self._waiting: Counter[UUID] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def place(self, tenant: str) -> AbstractContextManager[None]:
        """Hold a place while the block runs.

        Raises:
            TooManyCalls: there is none.
            TooManyAtOnce: the tenant has its share of them.
        """
        return self._places.place(tenant, self._full)

    @contextmanager
    def waiting(self, job_id: UUID) -> Iterator[None]:
        """Have the job wanted while the block runs."""
        self._waiting[job_id] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="calls")
        try:
            yield
        finally:
            self._waiting[job_id] -= 1
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _full(self) -> TooManyCalls:
        return TooManyCalls(
            f"{self._places.n_places} clients wait for transcripts, which is the limit "
            "(LONGHAND_MAX_CALLS); try again, or send the file to POST /jobs"
        )

    async def _run(self) -> None:
        while True:
            pause_s = min(self._interval_s, _AGAIN_S) if self._failing else self._interval_s
            await asyncio.sleep(pause_s)
            if not self._waiting:
                return
            try:
                await to_thread.run_sync(
                    self._renew,
                    list(self._waiting),
                    self.wanted_s,
                    limiter=self._threads,
                    abandon_on_cancel=True,
                )
            except (DatabaseUnavailable, SQLAlchemyError) as error:
                if not self._failing:
                    log.warning("%s: jobs whose clients wait are not renewed", error)
                self._failing = True
            else:
                self._failing = False
