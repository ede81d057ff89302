"""The ``transcribe`` step: one chunk through the batcher."""

import logging
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import sqlalchemy

from shared.infra.errors import DatabaseUnavailable, EngineFailed
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, chunk_from_json, hypothesis_to_json
from shared.store import steps
from shared.store.steps import Claim
from shared.store.workers import name_suspect
from worker.batching.batcher import Inference
from worker.engines.protocol import DecodeOptions
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.pcm import read_pcm

log = logging.getLogger(__name__)


def transcribe(runtime: Runtime, lease: Lease) -> None:
    """Read the chunk's samples, infer, and store the hypothesis.

    Raises:
        ModelError: the model cannot do this.
        DeviceOutOfMemory, EngineFailed, StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: somebody else has the chunk now.
    """
    claim = lease.claim
    assert runtime.batcher is not None, "transcribe steps are queued for model workers only"
    chunk = chunk_from_json(claim.idx, claim.input)
    begun = time.monotonic()
    samples = read_pcm(runtime.storage, claim.job_id, chunk.start, chunk.end, channel=chunk.channel)
    read_s = time.monotonic() - begun
    options = decode_options(runtime, claim)
    (inference,) = infer(runtime, claim, [samples], options)
    steps.complete_transcribe(
        runtime.database,
        claim,
        output=hypothesis_to_json(inference.hypothesis)
        | {
            "engine": runtime.batcher.engine_version,
            "weights": runtime.batcher.weights_digest,
            "device": runtime.batcher.device,
        },
        timings={
            "read_s": round(read_s, 4),
            "batch_wait_s": round(inference.batch_wait_s, 4),
            "inference_s": round(inference.inference_s, 4),
            "batch_size": inference.batch_size,
            "audio_s": chunk.n_samples / SAMPLE_RATE,
            "device_memory_bytes": inference.device_memory_bytes,
        },
        audio_s=chunk.n_core_samples / SAMPLE_RATE,
        max_attempts=runtime.settings.max_attempts,
    )


def decode_options(runtime: Runtime, claim: Claim) -> DecodeOptions:
    """Return how the job's chunks are to be decoded."""
    asked = claim.options
    return DecodeOptions(
        language=claim.language,
        task=asked.task,
        prompt=asked.prompt,
        hotwords=asked.hotwords,
        beam_size=runtime.catalogue.get(asked.model).decode.beam_size,
    )


@dataclass(frozen=True, slots=True)
class Suspicion:
    """While the engine hears a step that an earlier attempt may have died of: says so.

    If this worker dies of it, too, the other steps that it holds have lost no attempt by it.
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


def infer(
    runtime: Runtime, claim: Claim, batch: Sequence[Samples], options: DecodeOptions
) -> list[Inference]:
    """Have a step's audio heard by the model.

    What was attempted before is heard alone: it may be what the worker before died of.

    Raises:
        ModelError: the model cannot do this.
        DeviceOutOfMemory, EngineFailed: try again.
    """
    assert runtime.batcher is not None, "such steps are queued for model workers only"
    alone = Suspicion(runtime.database, claim) if claim.attempt > 1 else None
    futures = [runtime.batcher.submit(samples, options, alone=alone) for samples in batch]
    return await_inferences(futures)


def await_inferences(futures: Sequence[Future[Inference]]) -> list[Inference]:
    """Wait for the batcher; stop this process where only a new one can go on.

    A device whose context is lost fails every later call, and going on would cost all waiting
    chunks their attempts. The batcher's watchdog deals with calls that hang.

    Raises:
        ModelError: the model cannot do this.
        DeviceOutOfMemory, EngineFailed: try again.
    """
    try:
        return [future.result() for future in futures]
    except EngineFailed:
        log.exception("the model worker stops, to be started anew")
        os.kill(os.getpid(), signal.SIGTERM)  # orderly: the other chunks' errors are written, too
        raise
