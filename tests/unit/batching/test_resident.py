"""A model is in memory while it is used, and no longer."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from harness.engines.fake import ItemEngine
from harness.engines.gated import EN, GatedEngine, item
from harness.programs.workers import wait_until
from shared.infra.errors import ModelError, WorkerStopping
from shared.infra.settings import Settings
from worker.batching.load import Loaded
from worker.batching.resident import Residence, ResidentModel

IDLE_S = 60.0


class World:
    """A clock, and engines that can be loaded."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[Residence] = []
        self.ended: list[Exception] = []
        self.loads = 0
        self.error: Exception | None = None
        self.engine: ItemEngine | None = None
        self.model = ResidentModel(
            self.load,
            Settings(idle_unload_s=IDLE_S),
            nullcontext(),
            tell=lambda residence, _: self.told.append(residence),
            end_worker=self.ended.append,
            clock=lambda: self.now,
        )

    def load(self) -> Loaded:
        self.loads += 1
        if self.error is not None:
            raise self.error
        return Loaded(self.engine or ItemEngine(), 1.0, 0.5)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.model.close()


def test_a_model_that_nobody_used_for_long_is_dropped_and_loaded_for_the_next_who_does(
    world: World,
) -> None:
    world.model.load()
    world.now = IDLE_S - 1
    world.model.unload_if_idle()
    assert world.model.is_loaded
    world.now = IDLE_S
    world.model.unload_if_idle()
    assert not world.model.is_loaded
    assert (world.model.live_room(), world.model.live_capacity(), world.model.busy_s()) == (0, 0, 0)

    with world.model.use() as batcher:
        assert batcher.submit(item(3), EN).result(60).hypothesis.language == "3"
    assert world.told == ["loading", "ready", "unloaded", "loading", "ready"]


def test_idle_time_counts_from_the_end_of_the_last_use(world: World) -> None:
    world.model.load()
    world.now = IDLE_S + 1
    with world.model.use():
        world.model.unload_if_idle()
        assert world.model.is_loaded
        world.now += 2 * IDLE_S
    world.model.unload_if_idle()
    assert world.model.is_loaded
    world.now += IDLE_S
    world.model.unload_if_idle()
    assert not world.model.is_loaded


def test_what_the_device_still_hears_keeps_its_model(world: World) -> None:
    world.engine = engine = GatedEngine()
    world.model.load()
    with world.model.use() as batcher:  # as live requests do, nobody waits within the use
        heard = batcher.submit(item(1), EN)
    assert engine.entered.acquire(timeout=60)
    world.now = 2 * IDLE_S
    world.model.unload_if_idle()
    assert world.model.is_loaded
    engine.gate.set()
    assert heard.result(60).hypothesis.language == "1"


def test_nothing_keeps_the_engine_of_a_model_that_was_dropped(world: World) -> None:
    world.engine = ItemEngine()
    engine = weakref.ref(world.engine)
    world.model.load()
    with world.model.use() as batcher:
        batcher.submit(item(1), EN).result(60)
        wait_until(batcher.is_idle)  # the end of a call is noted after its results
    world.engine = None
    gc.collect()
    assert engine() is not None
    world.now = IDLE_S
    world.model.unload_if_idle()
    assert engine() is None, "the batcher, which somebody still asks for room, keeps it"
    assert batcher.live_room(10) == 0


def test_many_who_need_it_at_once_have_it_loaded_once(world: World) -> None:
    together = threading.Barrier(4)

    def use() -> str | None:
        together.wait(60)
        with world.model.use() as batcher:
            return batcher.submit(item(2), EN).result(60).hypothesis.language

    with ThreadPoolExecutor(4) as pool:
        assert [each.result() for each in [pool.submit(use) for _ in range(4)]] == ["2"] * 4
    assert world.loads == 1


def test_a_model_that_cannot_be_loaded_again_ends_the_worker_and_is_not_tried_again(
    world: World,
) -> None:
    world.model.load()
    world.now = IDLE_S
    world.model.unload_if_idle()
    world.error = ModelError("its weights are gone")
    for _ in range(2):
        with pytest.raises(WorkerStopping), world.model.use():
            pass
    assert world.model.failure is world.error
    assert world.ended == [world.error]
    assert world.loads == 2


def test_a_model_that_cannot_be_loaded_first_raises_why(world: World) -> None:
    world.error = ModelError("there are no weights")
    with pytest.raises(ModelError, match="there are no weights"):
        world.model.load()
    assert world.ended == []
