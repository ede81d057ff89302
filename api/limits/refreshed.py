"""Values that are read now and then, so that no request pays for them, nor waits for Postgres."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from shared.infra.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

FIRST_S = 1.0
"""How long a request waits for a value that was never read."""

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
            every_s: how old a value may be when a request asks for it; that one still gets the old
                value.
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
        """Return what was read last, and have it read again if that was long ago."""
        if self._clock() >= self._due.get(name, 0.0) and name not in self._reading:
            self._reading[name] = asyncio.create_task(self._refresh(name), name="refreshed")
        if name not in self._due and (task := self._reading.get(name)) is not None:
            await asyncio.wait({task}, timeout=FIRST_S)
        return self.known(name)

    async def _refresh(self, name: str) -> None:
        try:
            self._known[name] = await to_thread.run_sync(
                self._read, name, limiter=self._threads, abandon_on_cancel=True
            )
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            log.warning("%s: limits are those that were known before", error)
        finally:
            self._due[name] = self._clock() + self._every_s
            del self._reading[name]
