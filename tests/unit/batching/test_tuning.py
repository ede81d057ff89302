"""The batch size that is measured when a model is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engines.fake import ItemEngine
from worker.batching.tuning import BUDGET_S, KEEP_S, Remembered, tune


class TimedEngine(ItemEngine):
    """Takes as long as it is told, by a clock of its own."""

    max_batch = 4
    batch_sizes = (1, 4, 8)

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.now_s = 0.0
        self.rehearsed: list[int] = []

    def rehearsal(self) -> Callable[[int], object]:
        return self.rehearse

    def rehearse(self, n_items: int) -> None:
        self.rehearsed.append(n_items)
        self.now_s += self.seconds[n_items]

    def clock(self) -> float:
        return self.now_s


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path / "cache" / "batches.json")


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 0.1, 4: 0.2, 8: 0.3}, 8),
        ({1: 0.1, 4: 0.2, 8: 0.39}, 4),  # 3 % is no clear gain
        ({1: 0.1, 4: 0.5, 8: 1.0}, 1),
        ({1: 0.1, 4: 0.4, 8: 0.6}, 8),
    ],
)
def test_the_size_at_which_an_item_is_clearly_cheapest_is_taken(
    remembered: Remembered, seconds: dict[int, float], chosen: int
) -> None:
    engine = TimedEngine(seconds)
    assert tune(engine, remembered, clock=engine.clock) == chosen


def test_a_model_that_is_too_slow_to_be_measured_keeps_its_engines_own_size(
    remembered: Remembered,
) -> None:
    engine = TimedEngine(dict.fromkeys((1, 4, 8), BUDGET_S))
    assert tune(engine, remembered, clock=engine.clock) == engine.max_batch
    assert engine.rehearsed == [1, 1]


def test_sizes_are_measured_once_on_a_machine_and_again_after_a_month(tmp_path: Path) -> None:
    now_s = 1_000.0
    remembered = Remembered(tmp_path / "batches.json", now=lambda: now_s)
    tune(first := TimedEngine({1: 0.1, 4: 0.2, 8: 0.9}), remembered, clock=first.clock)
    again = TimedEngine({1: 0.1, 4: 0.5, 8: 0.2})

    assert tune(again, remembered, clock=again.clock) == 4
    assert again.rehearsed == []
    other = TimedEngine(again.seconds)
    other.weights_digest = "sha256:other"
    assert tune(other, remembered, clock=other.clock) == 8
    now_s += KEEP_S + 1
    assert tune(again, remembered, clock=again.clock) == 8


@pytest.mark.parametrize("content", ["", "not JSON", "[]", '{"x": 1}'])
def test_a_damaged_file_is_as_none_and_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "batches.json"
    path.write_text(content)
    engine = TimedEngine({1: 0.1, 4: 0.2, 8: 0.9})

    assert tune(engine, Remembered(path), clock=engine.clock) == 4
    assert tune(engine, Remembered(path), clock=engine.clock) == 4
    assert engine.rehearsed == [1, 1, 4, 8]


def test_a_cache_that_cannot_be_written_costs_no_more_than_the_measurement(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = TimedEngine({1: 0.1, 4: 0.2, 8: 0.9})

    assert tune(engine, Remembered(tmp_path / "file" / "x.json"), clock=engine.clock) == 4


def test_an_engine_that_names_no_sizes_is_not_measured(remembered: Remembered) -> None:
    engine = TimedEngine({})
    engine.batch_sizes = ()
    assert tune(engine, remembered) == 4
    assert engine.rehearsed == []
