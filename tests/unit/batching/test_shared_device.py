"""Several models on one device: turns, memory, and what they tell each other."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext

import pytest

from harness.engines.fake import Item, ItemEngine
from harness.engines.gated import EN, GatedEngine, await_prepared, item
from harness.programs.workers import wait_until
from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.infra.settings import Settings
from worker.batching.batcher import Batcher
from worker.batching.items import Inference
from worker.batching.load import Loaded
from worker.batching.resident import ResidentModel
from worker.batching.shared_device import SharedDevice
from worker.engines.protocol import Prepared


class Log:
    """The calls of several engines, in their order; none runs beside one of another engine."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gate = threading.Event()
        self._running: list[str] = []

    def call(self, name: str) -> None:
        self._running.append(name)
        assert set(self._running) == {name}, "two models are at the device"
        self.calls.append(name)
        assert self.gate.wait(60)
        self._running.remove(name)


class LoggedEngine(ItemEngine):
    """An engine whose calls have one item each."""

    max_batch = 1

    def __init__(self, name: str, log: Log, streams: int = 1) -> None:
        self.name, self.log, self.streams = name, log, streams

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        self.log.call(self.name)
        return super().infer(batch)


@contextmanager
def batchers(log: Log, **streams: int) -> Iterator[list[Batcher]]:
    """Yield a batcher for each name, all on one device."""
    device = SharedDevice()
    made = [
        Batcher(LoggedEngine(name, log, n), max_wait_ms=0, device=device)
        for name, n in streams.items()
    ]
    try:
        yield made
    finally:
        log.gate.set()
        for batcher in made:
            batcher.close()


def queue(batcher: Batcher, n: int) -> list[Future[Inference]]:
    """Queue items, and wait until a call could take any of them."""
    futures = [batcher.submit(item(each), EN) for each in range(1, n + 1)]
    await_prepared(batcher)
    return futures


def test_models_take_turns_so_that_none_waits_for_more_than_one_call_of_each_other() -> None:
    log = Log()
    with batchers(log, a=1, b=1, c=1) as (a, b, c):
        futures = queue(a, 5)
        wait_until(lambda: log.calls == ["a"])
        futures += queue(b, 2)
        wait_until(lambda: a._shared._line == [b])
        futures += queue(c, 2)
        wait_until(lambda: a._shared._line == [b, c])
        log.gate.set()
        assert all(future.result(60) for future in futures)
    assert log.calls == [*"abcabc", *"aaa"]


def test_a_turn_has_as_many_calls_side_by_side_as_the_engine_has_streams() -> None:
    log = Log()
    with batchers(log, a=2, b=1) as (a, b):
        futures = queue(a, 6)
        wait_until(lambda: log.calls == ["a", "a"])
        futures += queue(b, 1)
        wait_until(lambda: a._shared._line == [b])
        log.gate.set()
        assert all(future.result(60) for future in futures)
    assert log.calls == [*"aab", *"aaaa"]


def test_a_model_whose_work_was_cancelled_holds_up_nobody() -> None:
    log = Log()
    with batchers(log, a=1, b=1) as (a, b):
        futures = queue(a, 2)
        wait_until(lambda: log.calls == ["a"])
        (canceled,) = queue(b, 1)
        wait_until(lambda: a._shared._line == [b])
        assert canceled.cancel()
        log.gate.set()
        assert all(future.result(60) for future in futures)
    assert log.calls == ["a", "a"]


def test_nothing_is_inferred_beside_what_holds_the_device() -> None:
    log = Log()
    log.gate.set()
    with batchers(log, a=1) as (a,):
        with a._shared.held():
            (future,) = queue(a, 1)
            wait_until(lambda: a._shared._line == [a])
            assert log.calls == []
        assert future.result(60)


def test_while_somebody_speaks_to_one_model_the_calls_of_all_are_short() -> None:
    models = Memory(room=2)
    for model in (models["a"], models["b"]):
        model.load()
    with models["b"].use() as batcher:
        assert not batcher._schedule._pacing._speaking_until > 0
        models["a"].note_speech()
        assert batcher._schedule._pacing._speaking_until > 0
    models.close()


class Memory:
    """Models on a device whose memory has room for some of them; each use adds to the time."""

    def __init__(
        self, room: int, engine: Callable[[], ItemEngine] = ItemEngine, batch_wait_ms: float = 0.0
    ) -> None:
        self.settings = Settings(batch_wait_ms=batch_wait_ms)
        self.room = room
        self.now = 0.0
        self.device = SharedDevice()
        self.engine = engine
        self.models = {name: self._make() for name in "abc"}

    def __getitem__(self, name: str) -> ResidentModel:
        return self.models[name]

    @property
    def loaded(self) -> str:
        return "".join(name for name, model in self.models.items() if model.is_loaded)

    def hear(self, name: str) -> str | None:
        """Have a model hear something."""
        self.now += 1
        with self[name].use() as batcher:
            heard = batcher.submit(item(7), EN).result(60)
            wait_until(batcher.is_idle)  # the end of a call is noted after its results
        return heard.hypothesis.language

    def close(self) -> None:
        for model in self.models.values():
            model.close()

    def _make(self) -> ResidentModel:
        return ResidentModel(
            self._load, self.settings, nullcontext(), device=self.device, clock=lambda: self.now
        )

    def _load(self) -> Loaded:
        if len(self.loaded) >= self.room:
            raise ModelError("it cannot be loaded") from DeviceOutOfMemory("full")
        return Loaded(self.engine(), 0.0, 0.0)


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory(room=2)
    yield made
    made.close()


def test_a_model_that_does_not_fit_has_the_one_leave_that_was_used_least_recently(
    memory: Memory,
) -> None:
    assert [memory.hear(name) for name in "aba"] == ["7", "7", "7"]
    assert memory.loaded == "ab"
    assert memory.hear("c") == "7"
    assert memory.loaded == "ac"
    assert memory.hear("b") == "7"
    assert memory.loaded == "bc"


def test_a_model_in_use_leaves_when_the_work_in_hand_is_done_and_comes_back_for_the_next(
    memory: Memory,
) -> None:
    memory.room = 1
    heard = []
    with memory["a"].use() as batcher:
        other = threading.Thread(target=lambda: heard.append(memory.hear("b")))
        other.start()
        wait_until(lambda: batcher.gives_way)
        assert not memory["a"].is_loaded, "nobody else begins to use it"
        assert batcher.submit(item(3), EN).result(60)
        assert heard == []
    other.join(60)
    assert heard == ["7"]
    assert memory.loaded == "b"
    assert memory.hear("a") == "7"


def test_a_model_that_does_not_fit_by_itself_cannot_be_loaded(memory: Memory) -> None:
    memory.room = 0
    with pytest.raises(ModelError, match="cannot be loaded"):
        memory["a"].load()


class Squeezed(GatedEngine):
    """Has room for one item while another model is in memory, else for four."""

    memory: Memory

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        self.gate.set()
        self.memory_items = 4 if len(self.memory.loaded) == 1 else 0
        return super().infer(batch)


@pytest.mark.parametrize("n", [1, 4])
def test_a_call_that_does_not_fit_is_tried_again_once_an_unused_model_has_left(n: int) -> None:
    engines: list[Squeezed] = []

    def engine() -> Squeezed:
        engines.append(Squeezed())
        engines[-1].memory = memory
        return engines[-1]

    # A full batch waits for nothing, and no busy machine makes it less than full.
    memory = Memory(room=2, engine=engine, batch_wait_ms=60_000.0 * (n > 1))
    memory["b"].load()
    memory["a"].load()
    with memory["a"].use() as batcher:
        futures = [batcher.submit(item(each), EN) for each in range(1, n + 1)]
        assert [future.result(60).batch_size for future in futures] == [n] * n
        assert batcher.batch_size == 4, "no later batch is smaller"
    assert memory.loaded == "a"
    assert [len(items) for _, items in engines[1].calls] == [n, n]
    memory.close()


def test_a_call_has_no_model_leave_that_is_in_use() -> None:
    engines: list[Squeezed] = []

    def engine() -> Squeezed:
        engines.append(Squeezed())
        engines[-1].memory = memory
        return engines[-1]

    memory = Memory(room=2, engine=engine)
    with memory["b"].use(), memory["a"].use() as batcher:
        with pytest.raises(DeviceOutOfMemory):
            batcher.submit(item(1), EN).result(60)
        assert memory.loaded == "ab"
    memory.close()
