"""Values that are read every few seconds."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from api.limits import refreshed
from api.limits.refreshed import Refreshed
from shared.infra.errors import DatabaseUnavailable

EVERY_S = 5.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for reads on a busy machine, too."""
    monkeypatch.setattr(refreshed, "FIRST_WAIT_S", 20.0)
    monkeypatch.setattr(refreshed, "WAIT_S", 20.0)


@dataclass
class Source:
    """What values are read from, by a clock that stands still."""

    value: int = 1
    away: bool = False
    now: float = 0.0
    n_reads: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    """A read that has begun ends when this is set."""

    def __post_init__(self) -> None:
        self.gate.set()

    def read(self, _name: str) -> int:
        self.n_reads += 1
        if self.away:
            raise DatabaseUnavailable("away")
        found = self.value
        assert self.gate.wait(20)
        return found


def run(test: Callable[[Source, Refreshed[int]], Awaitable[None]]) -> None:
    async def main() -> None:
        source = Source()
        values = Refreshed(source.read, 0, every_s=EVERY_S, clock=lambda: source.now)
        async with asyncio.timeout(20):
            await test(source, values)

    asyncio.run(main())


def test_a_value_is_read_when_it_is_asked_for_and_too_old() -> None:
    async def test(source: Source, values: Refreshed[int]) -> None:
        assert values.known("a") == 0
        assert await asyncio.gather(*(values.get("a") for _ in range(9))) == [1] * 9
        source.value = 2
        source.now = EVERY_S - 1
        assert await values.get("a") == 1
        assert source.n_reads == 1
        source.now = EVERY_S
        assert await values.get("a") == 2
        assert values.known("a") == 2
        assert source.n_reads == 2

    run(test)


def test_a_value_that_has_changed_is_read_at_once_if_anybody_has_asked_for_it() -> None:
    async def test(source: Source, values: Refreshed[int]) -> None:
        values.renew("a")
        assert source.n_reads == 0
        await values.get("a")
        source.value = 2
        values.renew("a")
        while values.known("a") != 2:
            await asyncio.sleep(0.001)

    run(test)


def test_what_changes_while_a_value_is_read_is_read_again() -> None:
    async def test(source: Source, values: Refreshed[int]) -> None:
        source.gate.clear()
        asking = asyncio.create_task(values.get("a"))
        while source.n_reads == 0:
            await asyncio.sleep(0.001)
        source.value = 2
        values.renew("a")
        source.gate.set()
        await asking
        while values.known("a") != 2:
            await asyncio.sleep(0.001)

    run(test)


def test_while_it_cannot_be_read_the_last_value_counts() -> None:
    async def test(source: Source, values: Refreshed[int]) -> None:
        source.away = True
        assert await values.get("a") == 0
        assert await values.get("a") == 0
        assert source.n_reads == 1, "it is not asked again at once"
        source.away, source.now = False, EVERY_S
        assert await values.get("a") == 1
        source.away, source.now = True, 2 * EVERY_S
        assert await values.get("a") == 1

    run(test)


def test_nobody_waits_for_long_for_a_value_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refreshed, "WAIT_S", 0.01)

    async def test(source: Source, values: Refreshed[int]) -> None:
        await values.get("a")
        source.gate.clear()
        source.now = EVERY_S
        assert await values.get("a") == 1
        source.gate.set()

    run(test)
