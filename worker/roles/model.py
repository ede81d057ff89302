"""The model worker: one process with one model, and threads that feed its batcher."""

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from celery.signals import worker_ready

from shared.infra.settings import get_settings
from shared.models.catalogue import load_catalogue
from shared.store.queues import model_queue
from shared.store.workers import WorkerEntry
from worker import metrics
from worker.process.health import Health
from worker.process.heartbeat import Heartbeat
from worker.roles import start
from worker.tasks import install

if TYPE_CHECKING:  # they import numpy, which other roles do without
    from worker.batching.load import Loaded
    from worker.batching.resident import Residence

log = logging.getLogger("worker")

BATCHES = 2
"""Claims worked on at once, each of up to a batch: the next is read while the device infers one."""


def serve(model_id: str) -> None:
    from worker.batching.load import load
    from worker.batching.resident import ResidentModel
    from worker.batching.watchdog import Watchdog
    from worker.live.taker import LiveTaker
    from worker.steps.infer import answer_with, restart
    from worker.steps.transcribe import infer_steps

    settings = get_settings()
    model = load_catalogue(settings.catalogue).get(model_id)
    model_id = model.id  # it may have been another of its names
    entry = start.entry(
        "model", queues=(model_queue(model_id),), slots=0, model=model_id, device=settings.device
    )
    health, runtime = start.open_runtime(entry)
    said = _Said(entry, health, runtime.heartbeat)
    resident = ResidentModel(
        partial(load, model, settings),
        settings,
        Watchdog(settings.inference_limit_s),
        tell=said.tell,
        end_worker=restart,
    )
    live = None
    try:
        resident.load()
        install(runtime, answer_with(resident, infer_steps))
        health.has_started = True
        worker_ready.connect(lambda **_: resident.watch(), weak=False)
        live = LiveTaker(settings, entry.id, model, resident)
        start.consume(said.entry, runtime.heartbeat, health, "threads")
        if resident.failure is not None:
            raise resident.failure
    finally:
        if live is not None:
            live.close()
        resident.close()
        runtime.close()


class _Said:
    """What the worker says of its model: in the registry, in its health, metrics and log."""

    def __init__(self, entry: WorkerEntry, health: Health, heartbeat: Heartbeat) -> None:
        self.entry = entry
        self._health, self._heartbeat = health, heartbeat

    def tell(self, residence: "Residence", loaded: "Loaded | None") -> None:
        """Say where the model is now, and how it was loaded."""
        from worker.engines.memory import device_memory_bytes

        self.entry = replace(self.entry, state=residence)
        if loaded is not None:
            self._note(loaded)
        metrics.LOADED.set(residence == "ready")
        metrics.DEVICE_MEMORY_BYTES.set(device_memory_bytes(self.entry.device) or 0)
        if residence == "unloaded":
            log.info("unloaded %s, which was idle", self.entry.model)
        self._health.residence = residence
        if self._health.takes_messages:  # until then the registry says that it loads
            self._heartbeat.register(self.entry)

    def _note(self, loaded: "Loaded") -> None:
        engine = loaded.engine
        log.info(
            "loaded %s: %s on %s, dtype %s, load %.2f s, warm-up %.2f s, max_batch %d",
            *(self.entry.model, engine.version, engine.device, engine.dtype),
            *(loaded.load_s, loaded.warm_up_s, engine.max_batch),
        )
        metrics.LOAD_S.set(loaded.load_s)
        metrics.WARM_UP_S.set(loaded.warm_up_s)
        self.entry = replace(
            self.entry,
            slots=BATCHES,
            device=engine.device,
            dtype=engine.dtype,
            version=engine.version,
            load_s=loaded.load_s,
            warm_up_s=loaded.warm_up_s,
        )
