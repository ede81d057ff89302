"""Calls that wait in one process: their places, and the word that they still wait."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID, uuid4

import pytest

from api.calls import Calls
from api.limits.places import Places
from shared.infra.errors import DatabaseUnavailable, TooManyCalls

GRACE_S = 0.06


class Store:
    """What the renewals were."""

    def __init__(self) -> None:
        self.renewed: list[tuple[set[UUID], float]] = []
        self.is_away = False

    def renew(self, job_ids: Collection[UUID], for_s: float) -> None:
        if self.is_away:
            self.renewed.append((set(), for_s))
            raise DatabaseUnavailable("gone")
        self.renewed.append((set(job_ids), for_s))

    async def next(self) -> set[UUID]:
        """Wait for a renewal that begins from now on, and return whose it was."""
        n_seen = len(self.renewed)
        while len(self.renewed) == n_seen:
            await asyncio.sleep(0.001)
        return self.renewed[-1][0]


def run(test: Callable[[Store, Calls], Awaitable[None]], *, max_calls: int = 2) -> None:
    async def main() -> None:
        store = Store()
        async with asyncio.timeout(20):
            await test(
                store, Calls(store.renew, places=Places(max_calls, "calls"), grace_s=GRACE_S)
            )

    asyncio.run(main())


def test_jobs_are_renewed_as_long_as_a_client_waits_for_them() -> None:
    async def test(store: Store, calls: Calls) -> None:
        one, other = uuid4(), uuid4()
        with calls.waiting(one):
            with calls.waiting(other), calls.waiting(one):
                assert await store.next() == {one, other}
            await store.next()
            assert await store.next() == {one}
        n_renewed = len(store.renewed)
        while calls._task is not None and not calls._task.done():
            await asyncio.sleep(0.001)
        assert len(store.renewed) <= n_renewed + 1
        with calls.waiting(other):
            assert await store.next() == {other}

    run(test)


def test_a_renewal_lasts_for_the_grace_from_any_moment_on_even_if_the_next_one_is_late() -> None:
    for grace_s, interval_s in [(60.0, 10.0), (600.0, 10.0), (0.6, 0.1)]:
        calls = Calls(Store().renew, places=Places(1, "calls"), grace_s=grace_s)
        assert calls._interval_s == pytest.approx(interval_s)
        assert calls.wanted_s == pytest.approx(grace_s + 2 * interval_s)


def test_an_outage_ends_no_renewals() -> None:
    async def test(store: Store, calls: Calls) -> None:
        job_id = uuid4()
        with calls.waiting(job_id):
            store.is_away = True
            await store.next()
            await store.next()
            store.is_away = False
            await store.next()
            assert await store.next() == {job_id}

    run(test)


def test_there_are_so_many_places_and_each_is_free_again() -> None:
    calls = Calls(Store().renew, places=Places(2, "calls"), grace_s=GRACE_S)
    with calls.place("default"):
        with calls.place("default"), pytest.raises(TooManyCalls), calls.place("default"):
            pass
        with calls.place("default"):
            pass
