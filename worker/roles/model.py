"""The model worker: one process with one model or several, and threads that feed their batchers.

In the registry, and so for whoever asks, drains or scales, it is a worker for each of its models.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from celery.signals import worker_ready

from shared.infra.settings import get_settings
from shared.models.catalogue import Model, load_catalogue
from shared.store.queues import model_queue
from shared.store.workers import WorkerEntry
from worker import metrics
from worker.process.bugs import Record
from worker.process.health import Health
from worker.process.heartbeat import Heartbeat
from worker.process.runtime import Runtime
from worker.roles import start
from worker.tasks import install

if TYPE_CHECKING:  # they import numpy, which other roles do without
    from worker.batching.load import Loaded
    from worker.batching.resident import Residence
    from worker.batching.shared_device import SharedDevice
    from worker.batching.watchdog import Watchdog
    from worker.live.taker import LiveTaker

log = logging.getLogger("worker")

BATCHES = 2
"""Claims worked on at once for a model, each of up to a batch: the next is read while the device
infers one."""


def serve(model_ids: Sequence[str]) -> None:
    from worker.batching.shared_device import SharedDevice
    from worker.batching.watchdog import Watchdog

    settings = get_settings()
    catalogue = load_catalogue(settings.catalogue)
    # They may have been other names of a model.
    models = {model.id: model for model in map(catalogue.get, model_ids)}
    entries = [
        start.entry(
            "model", queues=(model_queue(name),), slots=0, model=name, device=settings.device
        )
        for name in models
    ]
    health, runtime = start.open_runtime(*entries)
    device, watchdog = SharedDevice(), Watchdog(settings.inference_limit_s)
    with ExitStack() as ending:
        ending.callback(runtime.close)
        served = [
            _Served(model, entry, runtime, health, device, watchdog)
            for model, entry in zip(models.values(), entries, strict=True)
        ]
        for each in served:
            ending.callback(each.resident.close)
        for each in served:
            each.resident.load()
        answers = {model_queue(each.model.id): each.answer() for each in served}
        install(runtime, lambda _, queue: answers[queue](queue))
        health.has_started = True
        for each in served:
            worker_ready.connect(each.become_ready, weak=False)
            ending.callback(each.take_live().close)
        start.consume([each.said.entry for each in served], runtime.heartbeat, health, "threads")
        for each in served:
            if each.resident.failure is not None:
                raise each.resident.failure


class _Served:
    """One of the worker's models, and all that is its own."""

    def __init__(
        self,
        model: Model,
        entry: WorkerEntry,
        runtime: Runtime,
        health: Health,
        device: "SharedDevice",
        watchdog: "Watchdog",
    ) -> None:
        """Load nothing yet."""
        from worker.batching.load import load
        from worker.batching.resident import ResidentModel
        from worker.steps.infer import restart

        settings = runtime.settings
        self.model = model
        self.said = _Said(entry, health, runtime.heartbeat)
        self.resident = ResidentModel(
            partial(load, model, settings, device.held),
            settings,
            watchdog,
            tell=self.said.tell,
            end_worker=restart,
            device=device,
        )
        self._runtime = replace(
            runtime, owner=entry.id, record=Record(runtime.database, settings, entry.id)
        )

    def answer(self) -> Callable[[str], None]:
        """Return what answers the wake-ups of the model's queue."""
        from worker.steps.infer import answer_with
        from worker.steps.transcribe import infer_steps

        return partial(answer_with(self.resident, infer_steps), self._runtime)

    def take_live(self) -> "LiveTaker":
        """Begin to take live requests."""
        from worker.live.taker import LiveTaker

        return LiveTaker(self._runtime.settings, self._runtime.owner, self.model, self.resident)

    def become_ready(self, **_: object) -> None:
        """Messages are taken from now on."""
        self.said.register()
        self.resident.watch()


class _Said:
    """What the worker says of a model: in the registry, in its health, metrics and log."""

    def __init__(self, entry: WorkerEntry, health: Health, heartbeat: Heartbeat) -> None:
        assert entry.model is not None, "a model worker has one"
        self.entry, self._model = entry, entry.model
        self._health, self._heartbeat = health, heartbeat

    def register(self) -> None:
        """Announce what the registry says of the model."""
        self._heartbeat.register(self.entry)

    def tell(self, residence: "Residence", loaded: "Loaded | None") -> None:
        """Say where the model is now, and how it was loaded."""
        from worker.engines.memory import device_memory_bytes

        self.entry = replace(self.entry, state=residence)
        if loaded is not None:
            self._note(loaded)
        metrics.LOADED.labels(self._model).set(residence == "ready")
        metrics.DEVICE_MEMORY_BYTES.set(device_memory_bytes(self.entry.device) or 0)
        if residence == "unloaded":
            log.info("unloaded %s, which nobody used", self._model)
        self._health.residences[self._model] = residence
        if self._health.takes_messages:  # until then the registry says that it loads
            self.register()

    def _note(self, loaded: "Loaded") -> None:
        engine = loaded.engine
        log.info(
            "loaded %s: %s on %s, dtype %s, load %.2f s, warm-up %.2f s, max_batch %d",
            *(self._model, engine.version, engine.device, engine.dtype),
            *(loaded.load_s, loaded.warm_up_s, engine.max_batch),
        )
        metrics.LOAD_S.labels(self._model).set(loaded.load_s)
        metrics.WARM_UP_S.labels(self._model).set(loaded.warm_up_s)
        self.entry = replace(
            self.entry,
            slots=BATCHES,
            device=engine.device,
            dtype=engine.dtype,
            version=engine.version,
            load_s=loaded.load_s,
            warm_up_s=loaded.warm_up_s,
        )
