"""Who is next on the device, by a clock of the test."""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest

from worker.batching.calls import LEAD_S
from worker.batching.costs import CallCosts
from worker.batching.items import Item, Lane
from worker.batching.pacing import CHUNK_AGE_S, PARTIALS_APART_S, SPEECH_S
from worker.batching.schedule import Schedule
from worker.engines.protocol import DecodeOptions, Prepared

FINAL, PARTIAL, CHUNK = Lane.FINAL, Lane.PARTIAL, Lane.BATCH
Cost = Callable[[int], float]


def made(
    lane: Lane, at: float = 0.0, *, group: str = "", first: bool = False, ready: bool = True
) -> Item:
    """An item as long as a window."""
    new = Item(np.zeros(1, np.float32), DecodeOptions(), None, lane, first, submitted=at)
    if ready:
        new.prepared = Prepared(None, 1, group)
    return new


def flat(_: int) -> float:
    """What a call costs on a device that does a whole batch at once."""
    return 0.1


class Device:
    """A schedule's streams, with calls that take as long as ``cost`` says of their items."""

    def __init__(self, schedule: Schedule, cost: Cost = flat) -> None:
        self.schedule, self.cost = schedule, cost
        self.now = 0.0
        self.calls: list[tuple[float, list[Item]]] = []

    def submit(self, *items: Item) -> None:
        for each in items:
            self.schedule.add(each, each.submitted)

    def call(self) -> list[Item] | None:
        """Make the call that is due now, if there is one."""
        turn = self.schedule.next(self.now)
        if not turn.items:
            return None
        self.calls.append((self.now, turn.items))
        self.schedule.begin_call(0, turn.items, self.now)
        self.now += self.cost(len(turn.items))
        self.schedule.end_call(0, self.now, succeeded=True)
        self.schedule.finish_turn()
        return turn.items

    def run(self, arrivals: Iterable[Item], until: float, *, chunks: int = 0) -> None:
        """Work until then; as many chunks always wait."""
        waiting = sorted(arrivals, key=lambda each: each.submitted)
        while self.now < until:
            while waiting and waiting[0].submitted <= self.now:
                self.submit(waiting.pop(0))
            queued = self.schedule._queue
            n_missing = chunks - sum(each.lane is CHUNK for each in queued)
            self.submit(*(made(CHUNK, self.now) for _ in range(n_missing)))
            turn_at = self.now
            if self.call() is None:
                # Nothing is due: time passes to what comes next, be it an arrival or a deadline.
                wait_s = self.schedule.next(turn_at).wait_s
                later = [turn_at + wait_s] if wait_s is not None else []
                later += [waiting[0].submitted] if waiting else []
                self.now = max(turn_at + 1e-6, min([*later, until]))

    def warm_up(self, sizes: Iterable[int]) -> None:
        """Have chunks inferred while nobody speaks, in calls of these sizes."""
        for size in sizes:
            self.submit(*(made(CHUNK, self.now - 1) for _ in range(size)))
            called = self.call()
            assert called is not None
            assert len(called) == size


def device(cost: Cost = flat, **options: float) -> Device:
    numbers: dict[str, float] = {"window_samples": 1, "max_wait_s": 0.0} | options
    return Device(Schedule(32, **numbers), cost)  # type: ignore[arg-type]


def lanes(items: list[Item] | None) -> list[Lane]:
    assert items is not None
    return [each.lane for each in items]


def test_finals_go_first_then_partials_then_chunks() -> None:
    on = device()
    on.submit(made(CHUNK, group="c"), made(PARTIAL, group="p"), made(FINAL, group="f"))

    assert [lanes(on.call()) for _ in range(3)] == [[FINAL], [PARTIAL], [CHUNK]]


def test_partials_share_the_calls_of_finals_and_chunks_do_while_a_call_stays_short() -> None:
    on = device()
    on.warm_up([1, 8])
    on.submit(made(CHUNK), made(PARTIAL), made(FINAL), made(PARTIAL))

    assert lanes(on.call()) == [FINAL, PARTIAL, PARTIAL, CHUNK]


def test_chunks_join_no_call_that_would_be_long_with_them() -> None:
    on = device(lambda n: 0.1 * n)
    on.warm_up([1, 8])
    on.submit(made(CHUNK), made(FINAL))

    assert lanes(on.call()) == [FINAL]


def test_calls_of_chunks_are_short_while_somebody_speaks_and_full_once_nobody_does() -> None:
    on = device(lambda n: 0.02 + 0.02 * n)
    on.warm_up([4, 8, 16, 32])
    talk = [made(FINAL, on.now + 0.5 + i, group="live") for i in range(5)]
    on.calls.clear()
    begun = on.now

    on.run(talk, on.now + 10, chunks=64)

    speaking = (talk[0].submitted, talk[-1].submitted + SPEECH_S)
    of_chunks = [(at, len(items)) for at, items in on.calls if items[0].lane is CHUNK]
    sizes = {n for at, n in of_chunks if speaking[0] < at < speaking[1]}
    assert sizes == {6}  # 20 + 6 * 20 ms is the most within 150
    assert {n for at, n in of_chunks if at < speaking[0] or at > speaking[1]} == {32}
    assert begun < speaking[0]


def test_what_calls_cost_is_learnt_while_somebody_speaks() -> None:
    on = device()
    talk = [made(PARTIAL, 0.3 * i, group="live") for i in range(20)]

    on.run(talk, 6.0, chunks=64)

    sizes = [len(items) for _, items in on.calls if items[0].lane is CHUNK]
    assert sizes[0] == 1
    assert max(sizes) == 32


def test_calls_of_partials_keep_a_distance_while_chunks_wait_and_only_then() -> None:
    def starts(chunks: int) -> list[float]:
        on = device(lambda n: 0.05)
        talk = [made(PARTIAL, i / 50, group="live") for i in range(250)]
        on.run(talk, 5.0, chunks=chunks)
        return [at for at, items in on.calls if items[0].lane is PARTIAL]

    apart = np.diff(starts(chunks=64))
    assert apart.min() >= PARTIALS_APART_S - 1e-6
    assert apart.max() < PARTIALS_APART_S + 0.06
    assert np.diff(starts(chunks=0)).max() < 0.08


def test_first_partials_and_finals_keep_no_distance() -> None:
    on = device(lambda n: 0.05)
    on.warm_up([1, 1])
    on.submit(*(made(CHUNK, on.now, group="chunk") for _ in range(9)))
    on.submit(made(PARTIAL, on.now), made(PARTIAL, on.now, group="other"))
    assert lanes(on.call()) == [PARTIAL]
    assert {*lanes(on.call())} == {CHUNK}

    on.submit(made(PARTIAL, on.now, first=True), made(FINAL, on.now, group="final"))

    assert lanes(on.call()) == [FINAL]
    led_by_first = on.call()
    assert led_by_first is not None
    assert led_by_first[0].first


COSTS: dict[str, tuple[Cost, float]] = {
    "flat": (flat, 0.25),
    "fast": (lambda n: 0.02 + 0.004 * n, 0.25),
    # Short calls are inefficient calls where most of the cost is fixed.
    "fixed": (lambda n: 0.12 + 0.01 * n, 0.2),
}
"""What calls cost, and the least share of their throughput that chunks keep."""


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("group", ["", "live"], ids=["alike", "apart"])
def test_chunks_keep_a_quarter_of_the_device_while_fifteen_people_talk(
    costs: str, group: str
) -> None:
    cost, least = COSTS[costs]
    alone = device(cost)
    alone.run([], 30.0, chunks=64)
    loaded = device(cost)
    loaded.warm_up([1, 2, 4, 8])
    begun, loaded.calls = loaded.now, []

    loaded.run(talking(15, begun, 30.0, group), begun + 30.0, chunks=64)

    of_chunks = [len(items) for _, items in loaded.calls if CHUNK in lanes(items)]
    assert sum(map(cost, of_chunks)) >= 0.25 * 30.0
    assert n_chunks(loaded) >= least * n_chunks(alone)


def n_chunks(of: Device) -> int:
    return sum(each.lane is CHUNK for _, items in of.calls for each in items)


def talking(n_people: int, begun: float, duration_s: float, group: str) -> list[Item]:
    """Requests of people who speak without a pause: partials, and a final every 4 s."""
    return [
        made(
            FINAL if i % 13 == 12 else PARTIAL,
            begun + i * 0.3 + person * 0.3 / n_people,
            group=group,
        )
        for person in range(n_people)
        for i in range(int(duration_s / 0.3))
    ]


def test_chunks_have_a_call_every_ten_seconds_however_many_finals_come() -> None:
    on = device(lambda n: 0.1 * n)
    talk = [made(FINAL, 0.1 * i, group="live") for i in range(650)]

    on.run(talk, 65.0, chunks=4)

    starts = [at for at, items in on.calls if items[0].lane is CHUNK]
    assert len(starts) >= 5
    assert np.diff(starts).max() < CHUNK_AGE_S + 0.5


def test_chunks_that_take_long_wait_until_nobody_speaks_or_ten_seconds_are_over() -> None:
    on = device(lambda n: 1.0 * n)
    on.warm_up([1])
    begun = on.now
    talk = [made(PARTIAL, begun + 2.0 * i, group="live") for i in range(9)]

    on.run(talk[:1], begun + 6.0, chunks=2)
    quiet = [at - begun for at, items in on.calls if items[0].lane is CHUNK and at > begun]
    assert quiet[0] == pytest.approx(SPEECH_S, abs=0.01)

    on.calls.clear()
    begun = on.now
    talk = [made(PARTIAL, begun + 1.2 * i, group="live") for i in range(20)]
    on.run(talk, begun + 23.0, chunks=2)
    aged = [at - begun for at, items in on.calls if items[0].lane is CHUNK and at > begun]
    assert all(later - earlier >= CHUNK_AGE_S for earlier, later in pairwise(aged))
    assert len(aged) == 2


def test_long_chunks_do_not_wait_where_other_workers_are_left_to_those_who_speak() -> None:
    on = device(lambda n: 1.0 * n)
    on.warm_up([1])
    begun = on.now
    on.schedule.reserve(is_reserved=False)
    talk = [made(PARTIAL, begun + 1.2 * i, group="live") for i in range(6)]

    on.run(talk, begun + 12.0, chunks=2)

    called = [(at - begun, lanes(items)) for at, items in on.calls if at >= begun]
    assert sum(called_lanes.count(PARTIAL) for _, called_lanes in called) == len(talk)
    assert sum(at < 6.0 and called_lanes == [CHUNK] for at, called_lanes in called) >= 2


def test_of_two_streams_chunks_that_take_long_leave_one_to_those_who_speak() -> None:
    schedule = device(streams=2).schedule
    schedule.add(made(CHUNK), 0.0)
    first = schedule.next(1.0).items
    schedule.begin_call(0, first, 1.0)
    schedule.end_call(0, 3.0, succeeded=True)
    schedule.finish_turn()
    schedule.note_speech(3.0)
    for _ in range(3):
        schedule.add(made(CHUNK, 3.0), 3.0)

    schedule.begin_call(0, schedule.next(3.0).items, 3.0)

    held = schedule.next(3.1)
    assert held.items == []
    assert held.wait_s is not None
    assert schedule.live_room(3.1) >= 1
    schedule.add(made(PARTIAL, 3.1, group="live"), 3.1)
    assert lanes(schedule.next(3.1).items) == [PARTIAL]


def test_streams_that_are_idle_share_live_items() -> None:
    schedule = device(streams=2).schedule
    for _ in range(4):
        schedule.add(made(FINAL), 0.0)

    assert [len(schedule.next(1.0).items) for _ in range(2)] == [2, 2]


def test_a_call_of_chunks_waits_for_a_live_item_that_is_nearly_ready() -> None:
    on = device()
    coming = made(FINAL, group="live", ready=False)
    on.submit(coming, made(CHUNK))

    assert on.call() is None

    coming.prepared = Prepared(None, 1, "live")
    assert lanes(on.call()) == [FINAL]


def test_live_requests_are_fetched_just_before_the_device_is_free() -> None:
    schedule = device().schedule
    assert schedule.live_room(0.0) == 32
    for begun in (0.0, 1.0):
        schedule.add(made(CHUNK, begun), begun)
        schedule.begin_call(0, schedule.next(begun + 0.1).items, begun + 0.1)
        if begun == 0.0:
            assert schedule.next_live_room_s(0.2) == math.inf  # its first call: nobody knows
            schedule.end_call(0, 0.3, succeeded=True)
            schedule.finish_turn()

    assert schedule.live_room(1.2) == 0
    assert schedule.next_live_room_s(1.2) == pytest.approx(0.1 - LEAD_S)
    assert schedule.live_room(1.3 - LEAD_S + 0.001) == 32
    schedule.add(made(FINAL, 1.29), 1.29)
    assert schedule.live_room(1.29) == 31
    # Nobody knows any more when it ends: other workers are to have what comes.
    assert schedule.live_room(1.5) == 0


def test_a_chunk_that_is_to_be_alone_has_its_turn_while_others_speak() -> None:
    on = device(lambda n: 0.1 * n)
    alone = Item(np.zeros(1, np.float32), DecodeOptions(), nullcontext(), submitted=0.0)
    on.submit(alone)
    talk = [made(FINAL, 0.1 * i, group="live") for i in range(300)]

    on.run(talk, 30.0)

    assert any(items == [alone] for _, items in on.calls)


def test_costs_are_fitted_to_calls_of_different_sizes_and_follow_the_device() -> None:
    costs = CallCosts()
    assert (costs.predict(1), costs.most_within(1.0)) == (None, None)

    costs.note(10, 0.2)
    assert costs.predict(5) == pytest.approx(0.1)  # in proportion, until sizes differ

    for _ in range(30):
        costs.note(4, 0.3)
        costs.note(8, 0.5)
    assert costs.predict(2) == pytest.approx(0.2, abs=0.01)
    assert costs.most_within(0.42) == 6

    for _ in range(200):
        costs.note(4, 0.03)
        costs.note(8, 0.05)
    assert costs.predict(2) == pytest.approx(0.02, abs=0.001)


def test_a_size_that_is_short_enough_is_outdone_by_one_until_the_costs_are_known() -> None:
    costs = CallCosts()
    costs.note(1, 0.1)
    assert costs.most_within(0.15) == 2

    costs.note(2, 0.1)
    assert costs.most_within(0.15) == 1_000_000


def test_a_call_with_a_high_fixed_cost_is_not_divided() -> None:
    costs = CallCosts()
    for n in (1, 8, 16):
        costs.note(n, 0.2 + 0.001 * n)
    most = costs.most_within(0.15)
    assert most is not None
    assert most > 16
