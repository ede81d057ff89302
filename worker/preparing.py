"""The ``prepare`` step: decode, find speech, plan chunks, store audio - all in one pass."""

import time

from shared import steps
from worker.audio import SAMPLE_RATE, Chunk
from worker.chunking import ChunkPlanner
from worker.chunks import chunk_to_json
from worker.decode import DecodeLimits, decode
from worker.heartbeat import Lease
from worker.pcm import PieceWriter
from worker.runtime import Runtime
from worker.vad import make_vad


def prepare(runtime: Runtime, lease: Lease) -> None:
    """Turn the source object into stored PCM and ``transcribe`` steps.

    A chunk's step is inserted as soon as its audio can be read back, so that inference starts while
    the rest is still being decoded.

    Raises:
        MediaError: the source cannot be transcribed.
        StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: somebody else prepares this job now.
        WorkerStopping: the worker was told to stop.
    """
    claim, settings = lease.claim, runtime.settings
    begun = time.monotonic()
    vad = make_vad(claim.vad)
    planner = ChunkPlanner(runtime.catalogue.get(claim.model).window_s)
    pieces = PieceWriter(runtime.storage, claim.job_id)
    planned: list[Chunk] = []
    decoded_samples = 0

    def insert_ready() -> None:
        ready = [chunk for chunk in planned if chunk.end <= pieces.stored_samples]
        if ready:
            del planned[: len(ready)]  # chunks are planned in the order of their ends
            new = [steps.NewChunk(chunk.index, chunk_to_json(chunk)) for chunk in ready]
            steps.add_chunks(runtime.database, claim, new, max_attempts=settings.max_attempts)
            runtime.doorbell.ring()

    with runtime.storage.open(claim.source_key) as source:
        for block in decode(source, DecodeLimits(max_duration_s=settings.max_duration_s)):
            lease.check()
            decoded_samples += len(block)
            planned += planner.push(block, vad.push(block))
            pieces.write(block)
            insert_ready()
    planned += planner.push(block[:0], vad.finish())
    planned += planner.finish()
    pieces.finish()
    insert_ready()
    steps.complete_prepare(
        runtime.database,
        claim,
        duration_s=decoded_samples / SAMPLE_RATE,
        metrics={"prepare_s": round(time.monotonic() - begun, 3)},
        max_attempts=settings.max_attempts,
    )
