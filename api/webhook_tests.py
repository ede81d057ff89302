"""Places for test events of webhooks: each holds a thread while a receiver is waited for."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.infra.errors import TooManyTests

TEST_THREADS = 64
"""Tests of one API process at once; a receiver that hangs takes 15 s of one."""
TENANT_SHARE = TEST_THREADS // 4
HOST_SHARE = TENANT_SHARE // 4


class TestPlaces:
    """Counts tests under way by tenant and by host; to be used in the event loop."""

    __test__ = False

    def __init__(self) -> None:
        self._taken: Counter[tuple[str, ...]] = Counter()

    @contextmanager
    def take(self, tenant: str, host: str) -> Iterator[None]:
        """Take a place for as long as the block runs.

        Raises:
            TooManyTests: the tenant or, of its places, the host has all that it may have at once.
        """
        shares = {(): TEST_THREADS, (tenant,): TENANT_SHARE, (tenant, host): HOST_SHARE}
        if any(self._taken[key] >= share for key, share in shares.items()):
            raise TooManyTests("other tests still wait for their receivers; try again later")
        self._taken.update(shares.keys())
        try:
            yield
        finally:
            self._taken.subtract(shares.keys())
            self._taken += Counter()  # forgets tenants and hosts without tests
