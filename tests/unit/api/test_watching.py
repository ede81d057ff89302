"""One look for all who wait, and whom it wakes."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest

from api.limits.places import Places
from api.watch import Watcher
from shared.infra.errors import DatabaseUnavailable, TooManyStreams
from shared.store.news import Glimpse, News

A_JOB = uuid4()


class Jobs:
    """What there is to see, and who has looked."""

    def __init__(self, *job_ids: UUID) -> None:
        self.seen = {job_id: Glimpse(ended=False, last_event=1) for job_id in job_ids}
        self.looks: list[set[UUID]] = []
        self.away = False

    def look(self, job_ids: Collection[UUID]) -> News:
        self.looks.append(set(job_ids))
        if self.away:
            raise DatabaseUnavailable("gone")
        return {job_id: self.seen.get(job_id) for job_id in job_ids}

    def happen(self, job_id: UUID, *, ended: bool = False) -> None:
        self.seen[job_id] = Glimpse(ended, self.seen[job_id].last_event + 1)


def run(
    test: Callable[[Watcher], Awaitable[None]],
    jobs: Jobs,
    *,
    most: int = 5000,
    interval_s: float = 0.01,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test(Watcher(jobs.look, Places(most, "streams"), interval_s=interval_s))

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_thousands_who_wait_are_one_question_at_a_time() -> None:
    jobs = Jobs(*(uuid4() for _ in range(3000)))

    async def test(watcher: Watcher) -> None:
        with ExitStack() as watches:
            waits = [
                asyncio.create_task(watches.enter_context(watcher.watch(job_id, "default")).news(1))
                for job_id in jobs.seen
            ]
            await until(lambda: len(jobs.looks) > 2)
            assert not any(wait.done() for wait in waits)
            for job_id in list(jobs.seen):
                jobs.happen(job_id)
            assert all(await asyncio.gather(*waits))
        assert jobs.looks[-1] == set(jobs.seen)

    run(test, jobs)


def test_nobody_who_waits_means_no_question() -> None:
    jobs = Jobs(A_JOB)

    async def test(watcher: Watcher) -> None:
        for _ in range(2):  # it starts again when somebody comes again
            with watcher.watch(A_JOB, "default") as watch:
                assert await watch.news(0)
            before = len(jobs.looks)
            await asyncio.sleep(0.1)
            assert len(jobs.looks) <= before + 1  # the one that was under way

    run(test, jobs)


def test_only_news_of_the_job_wakes() -> None:
    other = uuid4()
    jobs = Jobs(A_JOB, other)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch, watcher.watch(other, "default") as of_other:
            wait = asyncio.create_task(watch.news(1))
            jobs.happen(other)
            assert await of_other.news(1)
            assert not wait.done()
            jobs.happen(A_JOB)
            assert await wait

    run(test, jobs)


def test_news_wake_those_who_wait_for_them_without_a_look() -> None:
    other = uuid4()
    jobs = Jobs(A_JOB, other)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch, watcher.watch(other, "default") as of_other:
            wait = asyncio.create_task(watch.news(1))
            wait_for_other = asyncio.create_task(of_other.news(1))
            await asyncio.sleep(0)
            watcher.tell({A_JOB: Glimpse(ended=False, last_event=2), uuid4(): None})
            assert await wait
            assert not wait_for_other.done()
            watcher.tell({other: None})
            assert await wait_for_other
        assert jobs.looks == []

    run(test, jobs, interval_s=1000.0)


def test_news_that_were_overtaken_by_later_ones_are_dropped() -> None:
    jobs = Jobs(A_JOB)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch:
            watcher.tell({A_JOB: Glimpse(ended=True, last_event=3)})
            watcher.tell({A_JOB: Glimpse(ended=False, last_event=2)})
            assert await watch.news(1, ended=True)

    run(test, jobs, interval_s=1000.0)


def test_who_waits_for_the_end_is_not_woken_before() -> None:
    jobs = Jobs(A_JOB)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch:
            wait = asyncio.create_task(watch.news(1, ended=True))
            jobs.happen(A_JOB)
            assert await watch.news(1)
            assert not wait.done()
            jobs.happen(A_JOB, ended=True)
            assert await wait

    run(test, jobs)


def test_an_end_that_was_there_before_is_no_news() -> None:
    """As of a job that has failed and was retried, when another client saw its failure."""
    jobs = Jobs(A_JOB)
    jobs.happen(A_JOB, ended=True)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as earlier:
            assert await earlier.news(0, ended=True)
            with watcher.watch(A_JOB, "default") as watch:
                wait = asyncio.create_task(watch.news(3, ended=True))
                jobs.happen(A_JOB)
                before = len(jobs.looks)
                await until(lambda: len(jobs.looks) > before + 2)
                assert not wait.done()
                jobs.happen(A_JOB, ended=True)
                assert await wait

    run(test, jobs)


def test_a_job_that_was_deleted_ends_the_wait() -> None:
    jobs = Jobs(A_JOB)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch:
            del jobs.seen[A_JOB]
            assert await watch.news(1, ended=True)

    run(test, jobs)


def test_an_outage_delays_news_and_loses_none() -> None:
    jobs = Jobs(A_JOB)
    jobs.away = True

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch:
            wait = asyncio.create_task(watch.news(1))
            jobs.happen(A_JOB)
            await until(lambda: len(jobs.looks) > 2)
            assert not wait.done()
            jobs.away = False
            assert await wait

    run(test, jobs)


def test_a_server_that_stops_ends_all_waits_at_once() -> None:
    jobs = Jobs(A_JOB)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default") as watch:
            wait = asyncio.create_task(watch.news(1))
            await until(lambda: bool(jobs.looks))
            watcher.stop()
            assert await wait is False
            assert await watch.news(1) is False

    run(test, jobs)


def test_past_the_limit_clients_are_refused_until_one_leaves() -> None:
    jobs = Jobs(A_JOB)

    async def test(watcher: Watcher) -> None:
        with watcher.watch(A_JOB, "default"):
            with (
                watcher.watch(A_JOB, "default"),
                pytest.raises(TooManyStreams),
                watcher.watch(uuid4(), "default"),
            ):
                pass
            with watcher.watch(A_JOB, "default"):
                pass

    run(test, jobs, most=2)
