"""How many uploads are under way at once, and who waits for whom."""

import asyncio

import pytest

from api.intake.admission import SMALL_BYTES, Admission, CpuShare
from shared.infra.errors import TooManyUploads

LARGE = SMALL_BYTES + 1


class Clock:
    """Wall and CPU time that pass when the test says so."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def share(self, cpus: float = 0.5) -> CpuShare:
        return CpuShare(cpus, clock=lambda: self.wall_s, cpu_clock=lambda: self.cpu_s)


def admission(**limits: float) -> Admission:
    return Admission(Clock().share(), **limits)  # type: ignore[arg-type]


async def started(gate: Admission, n_bytes: int) -> asyncio.Task[None]:
    """Begin an upload that goes on until it is cancelled; it has its place, or waits for it."""

    async def upload() -> None:
        async with gate.turn(n_bytes):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(upload())
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("n_bytes", [LARGE, None])
def test_a_large_upload_past_the_limit_is_refused_at_once_until_one_is_over(
    n_bytes: int | None,
) -> None:
    async def scenario() -> None:
        gate = admission(max_large=2)
        async with gate.turn(n_bytes):
            async with gate.turn(LARGE):
                with pytest.raises(TooManyUploads) as refused:
                    await gate.turn(n_bytes).__aenter__()
            async with gate.turn(n_bytes):
                pass
        assert str(refused.value) == "2 uploads are under way, which is the limit"

    asyncio.run(scenario())


def test_small_uploads_wait_for_their_turn_in_the_order_in_which_they_came() -> None:
    async def scenario() -> None:
        gate = admission(max_small=1)
        order: list[int] = []

        async def upload(number: int) -> None:
            async with gate.turn(SMALL_BYTES):
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(upload(number) for number in range(100)))
        assert order == list(range(100))

    asyncio.run(scenario())


def test_a_small_upload_whose_turn_does_not_come_in_time_is_refused() -> None:
    async def scenario() -> None:
        gate = admission(max_small=1, patience_s=0.05)
        first = await started(gate, 1)
        with pytest.raises(TooManyUploads, match=r"did not come within 0\.05 seconds"):
            await gate.turn(1).__aenter__()
        await ended(first)
        async with gate.turn(1):
            pass

    asyncio.run(scenario())


def test_only_so_many_small_uploads_wait() -> None:
    async def scenario() -> None:
        gate = admission(max_small=1, max_waiting=2)
        tasks = [await started(gate, 1) for _ in range(3)]
        with pytest.raises(TooManyUploads, match="2 uploads wait"):
            await gate.turn(1).__aenter__()
        await ended(tasks.pop())
        tasks.append(await started(gate, 1))
        for task in tasks:
            await ended(task)

    asyncio.run(scenario())


def test_large_uploads_do_not_hold_up_small_ones() -> None:
    async def scenario() -> None:
        gate = admission(max_large=1, max_small=1)
        async with gate.turn(LARGE), gate.turn(SMALL_BYTES):
            pass

    asyncio.run(scenario())


def test_draining_waits_for_uploads_under_way_and_no_longer_than_it_may() -> None:
    async def scenario() -> None:
        gate = admission()
        await gate.drain(60)  # none is under way
        task = await started(gate, 1)
        await gate.drain(0.01)
        assert not task.done()
        draining = asyncio.ensure_future(gate.drain(60))
        await ended(task)
        await asyncio.wait_for(draining, 10)

    asyncio.run(scenario())


def test_small_uploads_begin_no_faster_than_the_share_of_cpu_allows() -> None:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.wall_s += seconds

    async def scenario() -> None:
        gate = Admission(clock.share(cpus=0.5), sleep=sleep)
        for _ in range(1000):
            async with gate.turn(1):
                clock.wall_s += 0.005
                clock.cpu_s += 0.005  # it alone keeps the process busy

    asyncio.run(scenario())
    assert clock.cpu_s / clock.wall_s == pytest.approx(0.5, rel=0.1)


def test_an_idle_process_saves_up_for_a_second_and_starts_without_a_pause() -> None:
    clock = Clock()
    share = clock.share(cpus=0.5)
    clock.wall_s += 3600.0
    assert share.pause_s() == 0
    clock.cpu_s += 0.5
    assert share.pause_s() == 0
    clock.cpu_s += 0.005
    assert share.pause_s() == pytest.approx(0.01)


def test_other_work_of_the_process_slows_small_uploads_down_and_does_not_stop_them() -> None:
    clock = Clock()
    share = clock.share(cpus=0.5)
    clock.wall_s, clock.cpu_s = 60.0, 3600.0
    assert share.pause_s() == 0.025
