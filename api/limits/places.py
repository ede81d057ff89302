"""Places in a process - for streams, calls, uploads, live sessions - and each tenant's share."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.infra.errors import TooManyAtOnce
from shared.store.accounts import DEFAULT_TENANT

RETRY_S = 5.0
"""How soon to try again after ``TooManyAtOnce``."""


def no_limit(_tenant: str) -> int:
    """Return 0: the tenant has no limit but its share."""
    return 0


class Places:
    """Places of which no tenant gets all. For use on the event loop only: nothing is locked.

    A tenant gets a place while more are free than it holds (the dynamic thresholds of Choudhury
    and Hahne, 1998). So one tenant gets half of them, each of two that want many gets a third, and
    a newcomer nearly always finds one. The default tenant gets all places until another tenant has
    come: a platform without keys has only this one.
    """

    def __init__(self, n_places: int, what: str, limit_of: Callable[[str], int] = no_limit) -> None:
        """Make free places.

        Args:
            n_places: how many there are.
            what: what takes them, in the plural, for messages.
            limit_of: returns a tenant's own limit; 0: it has none.
        """
        self.n_places = n_places
        self._n_free = n_places
        self._what, self._limit_of = what, limit_of
        self._held: Counter[str] = Counter()
        self._has_others = False

    @property
    def n_held(self) -> int:
        """Places that are taken."""
        return self.n_places - self._n_free

    def held_by(self, tenant: str) -> int:
        """Return how many places a tenant holds."""
        return self._held[tenant]

    def room_for(self, tenant: str) -> int:
        """Return how many places a tenant would get now, one after the other."""
        self._has_others |= tenant != DEFAULT_TENANT
        held, limit = self._held[tenant], self._limit_of(tenant)
        # Each place that it takes is one more held and one less free.
        room = (self._n_free - held + 1) // 2 if self._has_others else self._n_free
        return max(0, min(room, limit - held) if limit else room)

    def check_share(self, tenant: str) -> None:
        """See that a free place would be the tenant's.

        Raises:
            TooManyAtOnce: the tenant has its share, or reaches its own limit.
        """
        held = self._held[tenant]
        if self.room_for(tenant) or not held:
            return
        limit = self._limit_of(tenant)
        if limit and held >= limit:
            raise TooManyAtOnce(f"you have {held} {self._what}, which is your limit", RETRY_S)
        if self._n_free:
            raise TooManyAtOnce(f"you have {held} {self._what}, which is your share", RETRY_S)

    def take(self, tenant: str) -> bool:
        """Take a place, or return False if all are taken.

        Raises:
            TooManyAtOnce: as ``check_share``.
        """
        self.check_share(tenant)
        if not self._n_free:
            return False
        self._n_free -= 1
        self._held[tenant] += 1
        return True

    def give_back(self, tenant: str) -> None:
        """Free a place."""
        self._n_free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]

    @contextmanager
    def place(self, tenant: str, full: Callable[[], Exception]) -> Iterator[None]:
        """Hold a place while the block runs; raises ``full()`` if all are taken.

        Raises:
            TooManyAtOnce: as ``check_share``.
        """
        if not self.take(tenant):
            raise full()
        try:
            yield
        finally:
            self.give_back(tenant)
