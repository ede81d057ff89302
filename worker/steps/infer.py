"""Answering a model's wake-ups, handing audio to its batcher, and restarting after a breakdown."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

import sqlalchemy

from shared.infra.errors import DatabaseUnavailable, WorkerStopping
from shared.infra.tracing import Span
from shared.speech.audio.samples import Samples
from shared.store import steps
from shared.store.steps import Claim
from shared.store.workers import name_suspect
from worker.batching.batcher import Batcher
from worker.batching.items import Inference
from worker.batching.resident import ResidentModel
from worker.engines.protocol import DecodeOptions
from worker.process import drain
from worker.process.runtime import Runtime
from worker.steps.run import Answer, Work, answer

log = logging.getLogger(__name__)


def answer_with(model: ResidentModel, work: Work) -> Answer:
    """Return what answers a model's wake-ups. If it was unloaded it is loaded first.

    Nothing is claimed meanwhile, so neither an error nor ``kill -9`` costs a step an attempt. A
    wake-up with nothing due loads nothing.
    """

    def answer_loaded(runtime: Runtime, queue: str) -> None:
        if drain.claims_nothing(queue):
            return
        try:
            if not model.is_loaded and not steps.is_any_due(runtime.database, queue):
                return
            with model.use() as batcher:
                answer(replace(runtime, batcher=batcher), queue, work)
        except (DatabaseUnavailable, WorkerStopping) as error:
            log.warning("%s: no step is claimed", error)

    return answer_loaded


def batcher_of(runtime: Runtime) -> Batcher:
    """Return the batcher of a model worker that has claimed something."""
    assert runtime.batcher is not None, "such steps are queued for model workers only"
    return runtime.batcher


def submit(
    runtime: Runtime, claim: Claim, samples: Samples, options: DecodeOptions, span: Span
) -> Future[Inference]:
    """Hand some audio of a step, shape (n_samples,), to the batcher; ``span`` is the attempt's.

    A step that was attempted before is heard alone: it may have killed its last worker.
    """
    alone = (
        _suspected(runtime.database, runtime.heartbeat.workers, claim)
        if claim.attempt > 1
        else None
    )
    return batcher_of(runtime).submit(samples, options, alone=alone, span=span)


def restart(error: Exception) -> None:
    """Stop this worker, so that it is restarted; errors of the chunks in hand are written first.

    A device whose context is lost fails every later call, so each waiting chunk would lose an
    attempt.
    """
    log.error("the model worker stops, to be started anew", exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _suspected(database: sqlalchemy.Engine, workers: Sequence[str], claim: Claim) -> Iterator[None]:
    """Name the step as suspect, at all workers of this process, while the engine hears it.

    If the process dies of it, the other steps that it holds lose no attempt.
    """
    try:
        _name_suspect(database, workers, claim.step_id)
        yield
    finally:
        _name_suspect(database, workers, None)


def _name_suspect(database: sqlalchemy.Engine, workers: Sequence[str], step_id: int | None) -> None:
    try:
        name_suspect(database, workers, step_id)
    except DatabaseUnavailable as error:
        log.warning("%s: if this worker dies, all its steps lose an attempt", error)
