"""How many uploads are under way at once, and who waits for whom."""

import asyncio

import pytest

from api.intake.admission import SMALL_BYTES, Admission, CpuShare
from shared.infra.errors import TooManyAtOnce, TooManyUploads
from shared.store.accounts import DEFAULT_TENANT as ANYBODY

LARGE = SMALL_BYTES + 1


class Clock:
    """Wall and CPU time that pass when the test says so."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def share(self, cpus: float = 0.5) -> CpuShare:
        return CpuShare(cpus, clock=lambda: self.wall_s, cpu_clock=lambda: self.cpu_s)


def admission(**limits: float) -> Admission:
    return Admission(Clock().share(), **limits)  # type: ignore[arg-type]


async def started(
    gate: Admission, n_bytes: int, client: str = "a", tenant: str = ANYBODY
) -> asyncio.Task[None]:
    """Begin an upload that goes on until it is cancelled; it has its place, or waits for it."""

    async def upload() -> None:
        async with gate.turn(n_bytes, tenant, client):
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
        async with gate.turn(n_bytes, ANYBODY, "a"):
            async with gate.turn(LARGE, ANYBODY, "b"):
                with pytest.raises(TooManyUploads, match="large uploads"):
                    await gate.turn(n_bytes, ANYBODY, "c").__aenter__()
            async with gate.turn(n_bytes, ANYBODY, "b"):
                pass

    asyncio.run(scenario())


def test_small_uploads_wait_for_their_turn_in_the_order_in_which_they_came() -> None:
    async def scenario() -> None:
        gate = admission(max_small=1)
        order: list[int] = []

        async def upload(number: int) -> None:
            async with gate.turn(SMALL_BYTES, ANYBODY, "a"):
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
            await gate.turn(1, ANYBODY, "a").__aenter__()
        await ended(first)
        async with gate.turn(1, ANYBODY, "a"):
            pass

    asyncio.run(scenario())


def test_only_so_many_small_uploads_wait() -> None:
    async def scenario() -> None:
        gate = admission(max_small=1, max_waiting=2)
        tasks = [await started(gate, 1, client) for client in "abc"]
        with pytest.raises(TooManyUploads, match="uploads that wait"):
            await gate.turn(1, ANYBODY, "d").__aenter__()
        await ended(tasks.pop())
        tasks.append(await started(gate, 1, "d"))
        for task in tasks:
            await ended(task)

    asyncio.run(scenario())


def test_a_client_gets_no_more_large_places_than_it_leaves_to_others() -> None:
    async def scenario() -> None:
        gate = admission(max_large=8)
        tasks = [await started(gate, LARGE, "greedy") for _ in range(4)]
        with pytest.raises(TooManyUploads, match="as many of yours"):
            gate.check(LARGE, ANYBODY, "greedy")
        tasks += [await started(gate, LARGE, "b") for _ in range(2)]
        with pytest.raises(TooManyUploads):
            gate.check(LARGE, ANYBODY, "b")
        gate.check(LARGE, ANYBODY, "c")
        for task in tasks:
            await ended(task)
        gate.check(LARGE, ANYBODY, "greedy")

    asyncio.run(scenario())


def test_a_tenant_with_any_number_of_clients_leaves_places_to_other_tenants() -> None:
    async def scenario() -> None:
        gate = admission(max_large=16)
        tasks = [await started(gate, LARGE, f"{number}", "a") for number in range(8)]
        with pytest.raises(TooManyAtOnce, match="8 large uploads, which is your share"):
            gate.check(LARGE, "a", "another")
        tasks += [await started(gate, LARGE, "0", "b") for _ in range(2)]
        with pytest.raises(TooManyUploads, match="as many of yours"):
            gate.check(LARGE, "b", "0")
        tasks += [await started(gate, LARGE, "1", "b") for _ in range(1)]
        for task in tasks:
            await ended(task)

    asyncio.run(scenario())


def test_of_small_uploads_that_wait_a_tenant_with_fewer_places_is_the_next() -> None:
    async def scenario() -> None:
        gate = admission(max_small=4)
        order: list[str] = []

        async def upload(tenant: str, client: str) -> None:
            async with gate.turn(1, tenant, client):
                order.append(tenant)
                await asyncio.Event().wait()

        greedy = [asyncio.ensure_future(upload("greedy", f"{number}")) for number in range(9)]
        await asyncio.sleep(0.01)
        assert order == ["greedy"] * 2
        others = [asyncio.ensure_future(upload(tenant, "x")) for tenant in "bcd"]
        await asyncio.sleep(0.01)
        assert order == ["greedy", "greedy", "b", "c"]
        await ended(greedy[0])
        assert order[4:] == ["d"]
        for task in (*greedy, *others):
            await ended(task)

    asyncio.run(scenario())


def test_of_clients_that_wait_the_one_with_the_fewest_places_is_the_next() -> None:
    async def scenario() -> None:
        gate = admission(max_small=4)
        order: list[str] = []

        async def upload(client: str) -> None:
            async with gate.turn(1, ANYBODY, client):
                order.append(client)
                await asyncio.Event().wait()

        greedy = [asyncio.ensure_future(upload("greedy")) for _ in range(6)]
        await asyncio.sleep(0.01)
        assert order == ["greedy"] * 2
        others = [asyncio.ensure_future(upload(client)) for client in "bcd"]
        await asyncio.sleep(0.01)
        assert order == ["greedy", "greedy", "b", "c"]
        await ended(greedy[0])
        assert order[4:] == ["d"]
        for task in (*greedy, *others):
            await ended(task)
        async with (
            asyncio.timeout(10),
            gate.turn(1, ANYBODY, "greedy"),
            gate.turn(1, ANYBODY, "greedy"),
        ):
            pass  # every place came back

    asyncio.run(scenario())


def test_an_upload_that_is_given_up_while_its_turn_comes_keeps_no_place() -> None:
    async def scenario() -> None:
        gate = admission(max_small=1)
        first, second = await started(gate, 1, "a"), await started(gate, 1, "b")
        first.cancel()
        await asyncio.sleep(0)  # the place is the second's now, which does not know it yet
        second.cancel()
        await asyncio.wait([first, second])
        async with asyncio.timeout(10), gate.turn(1, ANYBODY, "c"):
            pass

    asyncio.run(scenario())


def test_large_uploads_do_not_hold_up_small_ones() -> None:
    async def scenario() -> None:
        gate = admission(max_large=1, max_small=1)
        async with gate.turn(LARGE, ANYBODY, "a"), gate.turn(SMALL_BYTES, ANYBODY, "a"):
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
            async with gate.turn(1, ANYBODY, "a"):
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
