"""What a worker says of itself, from its start to its end."""

from collections.abc import Sequence

import pytest

import worker.batching.load
import worker.process.drain
from harness.engines.fake import Item, ItemEngine
from shared.infra.errors import DeviceOutOfMemory, ModelError
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from worker.batching.load import load
from worker.engines.protocol import Prepared
from worker.process.health import Health


class FullDevice(ItemEngine):
    """An engine that loads and has no memory left to infer with."""

    device, dtype = "cuda", "float16"

    def infer(self, batch: Sequence[Prepared[Item]]) -> list[Item | Prepared[Item]]:
        raise DeviceOutOfMemory("cuda: out of memory")


@pytest.fixture
def draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process's workers drain for the time of a test."""
    monkeypatch.setattr(worker.process.drain, "_stopping", bytearray(1))
    worker.process.drain.begin()


def test_a_worker_is_started_before_it_is_ready() -> None:
    health = Health("model", "starter")
    assert [health.answer(f"/health/{path}")[0] for path in ("live", "startup", "ready")] == [
        200,
        503,
        503,
    ]
    health.has_started = True
    assert health.answer("/health/startup")[0] == 200
    assert health.answer("/health/ready")[0] == 503
    health.takes_messages = True
    assert health.answer("/health/ready") == (
        200,
        {"status": "ready", "role": "model", "model": "starter"},
    )


def test_a_worker_at_which_every_step_fails_is_not_ready_and_says_why() -> None:
    reasons = ["every prepare step fails"]
    health = Health("cpu", has_started=True, takes_messages=True, failing=lambda: reasons)
    assert health.answer("/health/ready") == (
        503,
        {"status": "failing", "role": "cpu", "model": None, "reason": "every prepare step fails"},
    )
    assert health.answer("/health/live")[0] == 200
    reasons.clear()
    assert health.answer("/health/ready")[0] == 200


@pytest.mark.usefixtures("draining")
def test_a_worker_that_drains_is_alive_but_not_ready() -> None:
    health = Health("cpu", has_started=True, takes_messages=True)
    code, document = health.answer("/health/ready")
    assert (code, document["status"]) == (503, "draining")
    assert health.answer("/health/live")[0] == 200


def test_a_model_that_does_not_fit_its_device_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DeviceOutOfMemory("cuda: out of memory") from RuntimeError("tried\nto allocate 3 GiB")

    monkeypatch.setattr(worker.batching.load, "load_engine", fail)
    model = load_catalogue(Settings().catalogue).get("starter")
    with pytest.raises(
        ModelError, match="'starter' cannot be loaded: cuda: out of memory: tried to allocate 3 GiB"
    ):
        worker.batching.load.load(model, Settings())


def test_a_model_that_cannot_infer_is_not_taken_for_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.batching.load, "load_engine", lambda *_, **__: FullDevice())
    model = load_catalogue(Settings().catalogue).get("starter")
    with pytest.raises(ModelError, match="on cuda with dtype float16, but cannot infer: cuda: out"):
        load(model, Settings())


@pytest.mark.parametrize(("bound", "expected"), [(0, 4), (2, 2), (100, 4)])
def test_batches_are_no_larger_than_the_setting_allows(bound: int, expected: int) -> None:
    model = load_catalogue(Settings().catalogue).get("oracle")
    assert load(model, Settings(max_batch=bound)).engine.max_batch == expected
