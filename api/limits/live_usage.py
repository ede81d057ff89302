"""What live sessions used, told to Postgres when they have ended."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from anyio import CapacityLimiter, to_thread

from shared.infra.errors import CommitUncertain, DatabaseUnavailable

log = logging.getLogger(__name__)

_AGAIN_S = 5.0
"""Until the next try while Postgres is away."""


class LiveUsage:
    """Counts the audio of sessions. For use on one event loop only."""

    def __init__(self, count: Callable[[str, float], None]) -> None:
        """``count`` stores a tenant's seconds; called in a thread."""
        self._count = count
        self._uncounted: defaultdict[str, float] = defaultdict(float)
        self._task: asyncio.Task[None] | None = None
        self._threads = CapacityLimiter(1)

    def add(self, tenant: str, live_s: float) -> None:
        """Have a session counted that has ended; it stays in memory while Postgres is away."""
        if live_s <= 0:
            return
        self._uncounted[tenant] += live_s
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="live usage")

    async def drain(self, limit_s: float) -> None:
        """Wait until all is counted, but not for longer than this."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=limit_s)
            self._task.cancel()

    async def _run(self) -> None:
        while self._uncounted:
            tenant, live_s = self._uncounted.popitem()
            try:
                await to_thread.run_sync(self._count, tenant, live_s, limiter=self._threads)
            except CommitUncertain as error:
                log.warning("%s: %.1f s of live audio may not be counted", error, live_s)
            except DatabaseUnavailable as error:
                log.warning("%s: live audio is counted later", error)
                self._uncounted[tenant] += live_s
                await asyncio.sleep(_AGAIN_S)
