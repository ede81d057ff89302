"""Handing a step's audio to the batcher, and what to do when the engine breaks down or hangs."""

import logging
import os
import signal
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

import sqlalchemy

from shared.infra.errors import DatabaseUnavailable
from shared.speech.audio import Samples
from shared.store.steps import Claim
from shared.store.workers import name_suspect
from worker.batching.batcher import Batcher, Inference
from worker.engines.protocol import DecodeOptions
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)

EXIT_HUNG = 70
"""EX_SOFTWARE of sysexits.h."""


def batcher_of(runtime: Runtime) -> Batcher:
    """Return the batcher of a model worker."""
    assert runtime.batcher is not None, "such steps are queued for model workers only"
    return runtime.batcher


def submit(
    runtime: Runtime, claim: Claim, samples: Samples, options: DecodeOptions
) -> Future[Inference]:
    """Have some audio of a step, shape (n_samples,), heard by the model.

    What was attempted before is heard alone: the worker before may have died of it.
    """
    alone = _Suspicion(runtime.database, claim) if claim.attempt > 1 else None
    return batcher_of(runtime).submit(samples, options, alone=alone)


def wait_for_some(
    inferences: Collection[Future[Inference]], limit_s: float
) -> set[Future[Inference]]:
    """Wait until some of these are over, and return them; end this process where none is in time.

    A hung call of the engine cannot be interrupted, and its heartbeats would keep the leases for
    ever.
    """
    over, _ = wait(inferences, limit_s, FIRST_COMPLETED)
    if not over:
        log.critical("no result within %g s: the model worker ends itself", limit_s)
        os._exit(EXIT_HUNG)
    return over


def restart(error: Exception) -> None:
    """Have this worker stopped, to be started anew; the other chunks' errors are written first.

    A device whose context is lost fails every later call: going on would cost all waiting chunks
    their attempts.
    """
    log.error("the model worker stops, to be started anew", exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """While the engine hears a step that an earlier attempt may have died of: says so.

    If this worker dies of it too, the other steps that it holds have lost no attempt by it.
    """

    database: sqlalchemy.Engine
    claim: Claim

    def __enter__(self) -> None:
        self._say(self.claim.step_id)

    def __exit__(self, *_: object) -> None:
        self._say(None)

    def _say(self, step_id: int | None) -> None:
        try:
            name_suspect(self.database, self.claim.owner, step_id)
        except DatabaseUnavailable as error:
            log.warning("%s: if this worker dies, all its steps lose an attempt", error)
