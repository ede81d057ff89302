"""Reads that requests share: who joins which, and what each is told."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from api import loader as loading
from api.loader import Loader
from shared.infra.errors import DatabaseUnavailable, JobNotFound


class Source:
    """What there is to read, and which reads were made."""

    def __init__(self) -> None:
        self.reads: list[list[str]] = []
        self.values: dict[str, int] = {"a": 1, "b": 2, "c": 3}
        self.go_on = threading.Event()
        self.go_on.set()
        self.away = False

    def load(self, keys: Sequence[str]) -> Mapping[str, int | Exception]:
        found = {key: self.values.get(key, JobNotFound(key)) for key in keys}
        self.reads.append([*keys])
        assert self.go_on.wait(20)
        if self.away:
            raise DatabaseUnavailable("gone")
        return found


def run(
    test: Callable[[Source, Loader[str, int]], Awaitable[None]],
    *,
    threads: int = 1,
    at_once: int = 50,
) -> None:
    async def main() -> None:
        source = Source()
        loader = Loader("test", source.load, threads=threads, at_once=at_once)
        async with asyncio.timeout(20):
            await test(source, loader)
        source.go_on.set()
        loader.close()

    asyncio.run(main())


def test_who_asks_at_the_same_moment_shares_a_read_and_each_gets_its_own() -> None:
    async def test(source: Source, loader: Loader[str, int]) -> None:
        asked = [loader.get(key) for key in ("a", "b", "a", "x")]
        *values, error = await asyncio.gather(*asked, return_exceptions=True)
        assert values == [1, 2, 1]
        assert isinstance(error, JobNotFound)
        assert source.reads == [["a", "b", "x"]]

    run(test)


def test_a_read_that_has_begun_is_not_joined() -> None:
    async def test(source: Source, loader: Loader[str, int]) -> None:
        source.go_on.clear()
        first = asyncio.create_task(loader.get("a"))
        while not source.reads:
            await asyncio.sleep(0.001)
        source.values["a"] = 7  # committed since
        second = asyncio.create_task(loader.get("a"))
        await asyncio.sleep(0)
        source.go_on.set()
        assert [await first, await second] == [1, 7]

    run(test)


def test_no_read_is_larger_than_may_be_and_none_is_forgotten() -> None:
    async def test(source: Source, loader: Loader[str, int]) -> None:
        assert await asyncio.gather(*map(loader.get, "abc")) == [1, 2, 3]
        assert source.reads == [["a", "b"], ["c"]]

    run(test, at_once=2)


def test_who_gives_up_takes_the_read_from_nobody() -> None:
    async def test(source: Source, loader: Loader[str, int]) -> None:
        source.go_on.clear()
        leaving, staying = (asyncio.create_task(loader.get("a")) for _ in range(2))
        while not source.reads:
            await asyncio.sleep(0.001)
        leaving.cancel()
        source.go_on.set()
        assert await staying == 1

    run(test)


def test_an_outage_is_told_to_all_and_the_next_read_is_made() -> None:
    async def test(source: Source, loader: Loader[str, int]) -> None:
        source.away = True
        told = await asyncio.gather(loader.get("a"), loader.get("b"), return_exceptions=True)
        assert all(isinstance(error, DatabaseUnavailable) for error in told)
        source.away = False
        assert await loader.get("a") == 1

    run(test)


def test_who_waits_for_too_long_is_told_of_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LIMIT_S", 0.05)

    async def test(source: Source, loader: Loader[str, int]) -> None:
        source.go_on.clear()
        reading = asyncio.create_task(loader.get("a"))
        with pytest.raises(DatabaseUnavailable):
            await loader.get("b")  # behind the first
        with pytest.raises(DatabaseUnavailable):
            await reading

    run(test, at_once=1)
