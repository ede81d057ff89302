"""The model worker: one process with one preloaded model, and threads that feed its batcher."""

import logging
from dataclasses import replace

from shared.infra.settings import get_settings
from shared.models.catalogue import load_catalogue
from shared.store.queues import model_queue
from worker import metrics
from worker.roles import start
from worker.tasks import install

log = logging.getLogger("worker")

BATCHES = 2
"""Claims worked on at once, each of up to a batch: the next is read while the device infers one."""


def serve(model_id: str) -> None:
    from worker.batching.batcher import Batcher
    from worker.batching.load import load
    from worker.batching.watchdog import Watchdog
    from worker.live.taker import LiveTaker
    from worker.steps.transcribe import infer_steps

    settings = get_settings()
    catalogue_entry = load_catalogue(settings.catalogue).get(model_id)
    model_id = catalogue_entry.id  # it may have been another of its names
    entry = start.entry(
        "model", queues=(model_queue(model_id),), slots=0, model=model_id, device=settings.device
    )
    health, runtime = start.open_runtime(entry)
    live = None
    try:
        loaded = load(catalogue_entry, settings)
        engine = loaded.engine
        log.info(
            "loaded %s: %s on %s, dtype %s, load %.2f s, warm-up %.2f s, max_batch %d",
            *(model_id, engine.version, engine.device, engine.dtype),
            *(loaded.load_s, loaded.warm_up_s, engine.max_batch),
        )
        metrics.LOAD_S.set(loaded.load_s)
        metrics.WARM_UP_S.set(loaded.warm_up_s)
        batcher = Batcher(
            engine,
            max_wait_ms=settings.batch_wait_ms,
            live_call_ms=settings.live_call_ms,
            watchdog=Watchdog(settings.inference_limit_s),
        )
        runtime = replace(runtime, batcher=batcher)
        install(runtime, infer_steps)
        health.has_started = True
        entry = replace(
            entry,
            slots=BATCHES,
            device=engine.device,
            dtype=engine.dtype,
            version=engine.version,
            load_s=loaded.load_s,
            warm_up_s=loaded.warm_up_s,
        )
        live = LiveTaker(settings, entry.id, catalogue_entry, batcher)
        start.consume(entry, runtime.heartbeat, health, "threads")
    finally:
        if live is not None:
            live.close()
        runtime.close()
