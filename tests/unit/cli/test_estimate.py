"""The time a batch still takes, told from a recorded batch and from made-up ones."""

import itertools
from collections.abc import Iterator

from cli.transcribe.estimate import WARM_UP_S, Estimate

# fmt: off
RECORDED = (
    0, 0, 48, 48, 273, 273, 409, 524, 556, 838, 858, 858, 926, 1009,
    1241, 1370, 1539, 1728, 1776, 1900, 1906, 1990, 2199, 2375, 2566, 2779, 2848, 3008,
    3157, 3334, 3382, 3512, 3595, 3595, 3663, 3770, 3994, 4045, 4092, 4161, 4202, 4283,
    4388, 4464, 4616, 4744, 4906, 5069, 5173, 5224, 5473, 5473, 5734, 5862, 6145, 6155,
    6223, 6359, 6427, 6535, 6713, 6858, 7042, 7242, 7363, 7499, 7706, 8005, 8005, 8099,
    8210, 8338, 8532, 8632, 8652, 8701, 8826, 8928, 9030, 9136, 9349, 9492, 9495, 9616,
    9766, 9921, 9993, 10127, 10301, 10455, 10556, 10782, 10962, 11102, 11102, 11290, 11418, 11675,
    11878, 12122, 12143, 12150, 12306,
)
# fmt: on
"""Seconds of audio done after each second of a batch: 121 files of 7 to 310 s, four at once."""
RECORDED_TOTAL = RECORDED[-1]


def told(done: Iterator[float], total: float) -> list[float | None]:
    """What is told each second while the work is done."""
    estimate = Estimate()
    found = []
    for now_s, amount in enumerate(done):
        estimate.observe(now_s, amount, total)
        found.append(estimate.eta_s)
    return found


def test_nothing_is_told_before_the_speed_is_known() -> None:
    etas = told(iter(RECORDED), RECORDED_TOTAL)
    began = next(second for second, done in enumerate(RECORDED) if done)
    first = next(second for second, eta in enumerate(etas) if eta is not None)
    assert first == began + WARM_UP_S


def test_what_is_told_of_a_recorded_batch_counts_down_without_jumps() -> None:
    etas = [eta for eta in told(iter(RECORDED), RECORDED_TOTAL) if eta is not None]
    changes = [after - before for before, after in itertools.pairwise(etas)]
    assert max(changes) < 3
    assert min(changes) > -6


def test_the_same_from_the_last_seconds_speed_would_jump() -> None:
    speeds = [after - before for before, after in itertools.pairwise(RECORDED)]
    naive = [
        (RECORDED_TOTAL - done) / speed
        for done, speed in zip(RECORDED[1:], speeds, strict=True)
        if speed
    ]
    assert max(b - a for a, b in itertools.pairwise(naive)) > 100


def test_what_is_told_of_a_recorded_batch_is_about_true() -> None:
    etas = told(iter(RECORDED), RECORDED_TOTAL)
    for second, eta in enumerate(etas):
        left = len(RECORDED) - second
        assert eta is None or abs(eta - left) <= max(10, 0.3 * left), (second, eta, left)


def test_estimate_follows_a_speed_that_changes() -> None:
    fast = [10.0 * second for second in range(100)]
    slow = [1000.0 + 5.0 * second for second in range(200)]
    total = 10_000.0
    eta = told(iter(fast + slow), total)[-1]
    assert eta is not None
    assert abs(eta - (total - slow[-1]) / 5.0) < 0.1 * (total - slow[-1]) / 5.0


def test_a_pause_raises_the_estimate_and_does_not_break_it() -> None:
    work = [10.0 * second for second in range(60)] + [600.0] * 60
    etas = told(iter(work), 2000.0)
    assert etas[-1] is not None
    assert etas[59] is not None
    assert etas[-1] > etas[59]


def test_a_total_that_shrinks_lowers_the_estimate() -> None:
    estimate = Estimate()
    for second in range(100):
        estimate.observe(second, 10.0 * second, 5000.0 if second < 50 else 2000.0)
    assert estimate.eta_s is not None
    assert abs(estimate.eta_s - 101) < 5
