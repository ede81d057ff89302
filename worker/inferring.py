"""The ``transcribe`` step: one chunk through the batcher."""

import time

from shared import steps
from worker.audio import SAMPLE_RATE
from worker.chunks import chunk_from_json, hypothesis_to_json
from worker.engines.protocol import DecodeOptions
from worker.heartbeat import Lease
from worker.pcm import read_pcm
from worker.runtime import Runtime


def transcribe(runtime: Runtime, lease: Lease) -> None:
    """Read the chunk's samples, infer, and store the hypothesis.

    Raises:
        ModelError: the model cannot do this.
        DeviceOutOfMemory, StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: somebody else has the chunk now.
    """
    claim = lease.claim
    assert runtime.batcher is not None, "transcribe steps are queued for model workers only"
    chunk = chunk_from_json(claim.idx, claim.input)
    begun = time.monotonic()
    samples = read_pcm(runtime.storage, claim.job_id, chunk.start, chunk.end)
    read_s = time.monotonic() - begun
    model = runtime.catalogue.get(claim.model)
    inference = runtime.batcher.submit(
        samples, DecodeOptions(language=claim.language, beam_size=model.decode.beam_size)
    ).result()
    steps.complete_transcribe(
        runtime.database,
        claim,
        output=hypothesis_to_json(inference.hypothesis)
        | {"engine": runtime.batcher.engine_version},
        timings={
            "read_s": round(read_s, 4),
            "inference_s": round(inference.inference_s, 4),
            "batch_size": inference.batch_size,
            "audio_s": chunk.n_samples / SAMPLE_RATE,
        },
        audio_s=(chunk.core_end - chunk.core_start) / SAMPLE_RATE,
        max_attempts=runtime.settings.max_attempts,
    )
