"""Which of the waiting chunks make up a batch."""

from typing import NamedTuple

from worker.batching.choice import MOST_PER_WINDOW, choose


class Length(NamedTuple):
    n_samples: int


def test_a_batch_has_the_oldest_and_those_of_its_length_within_a_budget_of_padded_samples() -> None:
    waiting = [Length(n) for n in (10, 90, 12, 11, 100, 9)]

    chosen = choose(waiting, size=1, window_samples=36)

    # Three items padded to 12 fit 36 samples, four do not.
    assert chosen == ([0, 3, 5], True)
    assert choose(waiting[1:2], size=1, window_samples=36) == ([0], True)
    assert choose([Length(9)] * 2, size=1, window_samples=36) == ([0, 1], False)


def test_a_batch_of_equals_is_the_oldest_of_them() -> None:
    assert choose([Length(5)] * 6, size=4, window_samples=5) == ([0, 1, 2, 3], True)


def test_short_items_share_a_window_up_to_a_number() -> None:
    chosen = choose([Length(1)] * 100, size=2, window_samples=1_000)

    assert chosen == ([*range(2 * MOST_PER_WINDOW)], True)
