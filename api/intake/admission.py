"""Admission: how many uploads are under way at once, and how much CPU the small ones may take.

No tenant gets all places (``api.limits.places``), and no client all that its tenant gets: a client
gets a further place while its tenant would get more than the client holds. So there is nearly
always a place for a tenant, and for a client, that has none.
"""

import asyncio
import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable

from api.limits.places import Places
from shared.infra.errors import TooManyUploads
from shared.infra.quantities import duration

SMALL_BYTES = 1024**2
"""Uploads that declare at most this size are small. They are received whole before anything is
stored, and take milliseconds: it is worth waiting for a turn. 1 MiB is half a minute of 16 kHz WAV,
or a minute of MP3."""

MAX_LARGE = 32
"""Large uploads at once, and those of unknown size; each holds up to 24 MiB."""

MAX_SMALL = 64
"""Small uploads at once; each holds up to ``SMALL_BYTES``. Most of them wait for their client, so
that a few slow clients do not hold up the others."""

MAX_WAITING = 1_000
"""Small uploads that wait for their turn. Each holds a connection and the first read of its socket,
at most 256 KiB: the server reads no further until the body is asked for."""

PATIENCE_S = 45.0
"""How long a small upload waits. Proxies usually give up on an answer after 60 s."""

CPU_SHARE = 0.15
"""Of the machine's processors, what this process may use while small uploads wait. The database and
the object store need more than as much again for the same uploads. Where all share one machine,
half is left to the workers and what the database does for them (``python -m bench flood``)."""

_BURST_S = 1.0
"""Unused CPU time is saved up for this long: a few small uploads at once never wait."""

_LONGEST_PAUSE_S = 0.025
"""If other requests use up this process' share of CPU, small uploads still begin 40 times a
second."""


class CpuShare:
    """Says how long to pause so that this process keeps to its share of the CPU."""

    def __init__(
        self,
        cpus: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Begin to count.

        Args:
            cpus: seconds of CPU time that may be used in a second.
            clock: seconds of wall time.
            cpu_clock: seconds of CPU time that were used.
        """
        self._cpus = cpus
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at_s, self._used_s = clock(), cpu_clock()
        self._debt_s = 0.0

    def pause_s(self) -> float:
        """Return the seconds after which the share is kept again; 0: it is kept."""
        at_s, used_s = self._clock(), self._cpu_clock()
        debt_s = self._debt_s + used_s - self._used_s - self._cpus * (at_s - self._at_s)
        self._at_s, self._used_s = at_s, used_s
        self._debt_s = min(max(debt_s, -self._cpus * _BURST_S), self._cpus * _LONGEST_PAUSE_S)
        return max(0.0, self._debt_s / self._cpus)


class UploadPlaces:
    """Places for uploads, of which each tenant and each of its clients has a share.

    For use on the event loop only: nothing is locked.
    """

    def __init__(self, n_places: int, what: str) -> None:
        """``what`` takes the places, in the plural."""
        self._tenants = Places(n_places, what)
        self._what = what
        self._held: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    def has_room(self, tenant: str, client: str) -> bool:
        """Whether a client of a tenant may have a place, or one more."""
        return self._tenants.room_for(tenant) > self._held[tenant, client]

    def check(self, tenant: str, client: str) -> None:
        """See that a client of a tenant may have a place, or one more.

        Raises:
            TooManyAtOnce: the tenant has its share.
            TooManyUploads: the client has its share, or no place is free.
        """
        self._tenants.check_share(tenant)
        if not self.has_room(tenant, client):
            raise TooManyUploads(f"there are as many {self._what} as may be, or as many of yours")

    def take(self, tenant: str, client: str) -> None:
        """Take a place; there must be room."""
        self._tenants.take(tenant)
        self._held[tenant, client] += 1

    def give_back(self, tenant: str, client: str) -> None:
        """Free a place; clients that wait get it."""
        self._tenants.give_back(tenant)
        self._held[tenant, client] -= 1
        if not self._held[tenant, client]:
            del self._held[tenant, client]
        self._serve()

    async def wait(self, tenant: str, client: str) -> None:
        """Take a place; the next is the tenant with the fewest, and its client with the fewest."""
        queue = self._waiting.setdefault((tenant, client), deque())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came in the same moment
                self.give_back(tenant, client)
            elif turn in queue:
                queue.remove(turn)
                self._forget_if_empty(tenant, client)
            raise

    def _serve(self) -> None:
        while waiting := [each for each in self._waiting if self.has_room(*each)]:
            tenant, client = min(
                waiting, key=lambda each: (self._tenants.held_by(each[0]), self._held[each])
            )
            turn = self._waiting[tenant, client].popleft()
            self._forget_if_empty(tenant, client)
            if not turn.done():
                self.take(tenant, client)
                turn.set_result(None)

    def _forget_if_empty(self, tenant: str, client: str) -> None:
        if not self._waiting[tenant, client]:
            del self._waiting[tenant, client]


class Admission:
    """Gives uploads their turns. For use on the event loop only: nothing is locked."""

    def __init__(
        self,
        pace: CpuShare,
        *,
        max_large: int = MAX_LARGE,
        max_small: int = MAX_SMALL,
        max_waiting: int = MAX_WAITING,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Admit uploads; this module's constants say what the arguments are."""
        self._pace = pace
        self._large = UploadPlaces(max_large, "large uploads")
        self._small = UploadPlaces(max_small, "small uploads")
        self._queue = UploadPlaces(max_waiting, "uploads that wait")
        self._starting = asyncio.Lock()
        self._patience_s = patience_s
        self._sleep = sleep
        self._n_admitted = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def check(self, n_bytes: int | None, tenant: str, client: str) -> None:
        """See that an upload may have a turn now, or wait for it.

        Raises:
            TooManyAtOnce: its tenant has its share.
            TooManyUploads: it may not.
        """
        (self._large if _is_large(n_bytes) else self._queue).check(tenant, client)

    @contextlib.asynccontextmanager
    async def turn(self, n_bytes: int | None, tenant: str, client: str) -> AsyncIterator[None]:
        """Wait for an upload's turn; hold its place within the block.

        A large upload is refused at once if there is no place: others take minutes. A small one
        waits: the tenant with the fewest places is the next, then its client with the fewest, and
        among its uploads the first to come. Nothing of the body is read meanwhile.

        Args:
            n_bytes: the size that the client declares; None: unknown.
            tenant: whose upload it is.
            client: whose share of the tenant's places it is.

        Raises:
            TooManyAtOnce: the tenant has its share.
            TooManyUploads: there is no place, or none within the time that a small upload waits.
        """
        self.check(n_bytes, tenant, client)
        place = self._large_place if _is_large(n_bytes) else self._small_place
        async with place(tenant, client):
            self._n_admitted += 1
            self._idle.clear()
            try:
                yield
            finally:
                self._n_admitted -= 1
                if self._n_admitted == 0:
                    self._idle.set()

    @contextlib.asynccontextmanager
    async def _large_place(self, tenant: str, client: str) -> AsyncIterator[None]:
        self._large.take(tenant, client)
        try:
            yield
        finally:
            self._large.give_back(tenant, client)

    @contextlib.asynccontextmanager
    async def _small_place(self, tenant: str, client: str) -> AsyncIterator[None]:
        self._queue.take(tenant, client)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._small.wait(tenant, client)
        except TimeoutError as error:
            raise TooManyUploads(
                f"the upload's turn did not come within {duration(self._patience_s)}"
            ) from error
        finally:
            self._queue.give_back(tenant, client)
        try:
            async with self._starting:
                if pause_s := self._pace.pause_s():
                    await self._sleep(pause_s)
            yield
        finally:
            self._small.give_back(tenant, client)

    async def drain(self, limit_s: float) -> None:
        """Wait until no upload is under way, nor the cleanup of one that was cancelled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()


def _is_large(n_bytes: int | None) -> bool:
    return n_bytes is None or n_bytes > SMALL_BYTES


def process_share() -> CpuShare:
    """Return the share of an API process on this machine."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        processors = os.cpu_count() or 1
    return CpuShare(processors * CPU_SHARE)
