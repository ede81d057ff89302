"""The diarization worker: tells speakers apart in threads that share one preloaded model."""

import logging
import time
from dataclasses import replace
from functools import partial

from shared.infra.settings import get_settings
from shared.models.catalogue import load_catalogue
from shared.store.queues import model_queue
from shared.store.states import StepKind
from worker import metrics
from worker.roles import start
from worker.steps.run import answer, one_by_one
from worker.tasks import install

log = logging.getLogger("worker")


def serve(model_id: str, concurrency: int) -> None:
    from worker.diarization import load_diarizer
    from worker.diarization.voices import HearsVoices
    from worker.live.voices import VoiceTaker
    from worker.steps.diarize import hearing_with
    from worker.steps.diarizers import entry_of

    settings = get_settings()
    catalogue = load_catalogue(settings.catalogue)
    entry = start.entry("diarize", queues=(model_queue(model_id),), slots=0, model=model_id)
    health, runtime = start.open_runtime(entry)
    live = None
    try:
        begun = time.monotonic()
        diarizer = load_diarizer(entry_of(catalogue, model_id))
        load_s = time.monotonic() - begun
        log.info("loaded %s: load %.2f s", model_id, load_s)
        metrics.LOAD_S.labels(model_id).set(load_s)
        work = one_by_one({StepKind.DIARIZE: hearing_with(diarizer)})
        install(runtime, partial(answer, work=work))
        health.has_started = True
        entry = replace(entry, slots=concurrency, load_s=load_s)
        if isinstance(diarizer, HearsVoices):
            live = VoiceTaker(settings, entry.id, model_id, diarizer)
        start.consume([entry], runtime.heartbeat, health, "threads")
    finally:
        if live is not None:
            live.close()
        runtime.close()
