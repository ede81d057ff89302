"""Values that are read every few seconds, so that most requests do not pay for them."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from shared.infra.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
"""How long a request waits for a value that was never read."""

WAIT_S = 0.25
"""How long it waits where an older value is known: a Postgres that hangs delays nobody for long."""

_THREADS = 2

Value = TypeVar("Value")


class Refreshed(Generic[Value]):
    """Values by names. For use on one event loop only: nothing is locked."""

    def __init__(
        self,
        read: Callable[[str], Value],
        default: Value,
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read nothing yet.

        Args:
            read: called in a thread.
            default: for what could not be read so far.
            every_s: a value that is older is read again when somebody asks for it.
            clock: in seconds.
        """
        self._read, self._default, self._every_s, self._clock = read, default, every_s, clock
        self._known: dict[str, Value] = {}
        self._due: dict[str, float] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._threads = CapacityLimiter(_THREADS)

    def known(self, name: str) -> Value:
        """Return what was read last."""
        return self._known.get(name, self._default)

    async def get(self, name: str) -> Value:
        """Return a value that is not too old, or, if it cannot be read in time, the last one."""
        if self._is_due(name):
            self._begin(name)
        if (reading := self._reading.get(name)) is not None:
            wait_s = WAIT_S if name in self._known else FIRST_WAIT_S
            await asyncio.wait({reading}, timeout=wait_s)
        return self.known(name)

    def renew(self, name: str) -> None:
        """Have a value read again at once, which has changed, if anybody has asked for it."""
        if name in self._due:
            self._due[name] = -math.inf
            self._begin(name)

    def _is_due(self, name: str) -> bool:
        return self._clock() >= self._due.get(name, -math.inf)

    def _begin(self, name: str) -> None:
        if name not in self._reading:
            self._reading[name] = asyncio.create_task(self._refresh(name), name="refreshed")

    async def _refresh(self, name: str) -> None:
        try:
            while self._is_due(name):
                # What changes from now on may be missing, and is told while this is under way.
                self._due[name] = self._clock() + self._every_s
                self._known[name] = await to_thread.run_sync(
                    self._read, name, limiter=self._threads, abandon_on_cancel=True
                )
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            log.warning("%s: what was known before counts", error)
        finally:
            del self._reading[name]
