"""The ``detect`` step: a job's language, from a few of its chunks."""

import time
from collections import defaultdict
from collections.abc import Iterable

from shared.infra.errors import EngineFailed
from shared.infra.tracing import current
from shared.speech.chunks.chunk import chunk_from_json
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.chunks.packing import pack
from shared.store import steps
from worker.engines.protocol import DecodeOptions
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.infer import restart, submit
from worker.steps.pcm import read_pcm


def detect(runtime: Runtime, lease: Lease) -> None:
    """Hear the step's chunks, and store the job's language.

    Raises:
        ModelError: the model cannot do this.
        DeviceOutOfMemory, EngineFailed, StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: another worker has the step now.
    """
    claim = lease.claim
    begun = time.monotonic()
    chunks = [chunk_from_json(0, data) for data in claim.input["chunks"]]
    samples = [pack(chunk, read_pcm(runtime.storage, claim.job_id, chunk)).item for chunk in chunks]
    options = DecodeOptions(task="detect")
    futures = [submit(runtime, claim, heard, options, current()) for heard in samples]
    try:
        inferences = [future.result() for future in futures]
    except EngineFailed as error:
        restart(error)
        raise
    language, probability = choose_language(inference.hypothesis for inference in inferences)
    steps.complete_detect(
        runtime.database,
        claim,
        language=language,
        probability=probability,
        timings={"detect_s": round(time.monotonic() - begun, 4)},
    )


def choose_language(heard: Iterable[Hypothesis]) -> tuple[str | None, float | None]:
    """Return the language with the largest sum of probabilities, and its mean over all chunks.

    Chunks in which no language was heard do not count; (None, None) where all are such.
    """
    n_votes = 0
    totals: dict[str, float] = defaultdict(float)
    for hypothesis in heard:
        if hypothesis.language is not None:
            n_votes += 1
            totals[hypothesis.language] += hypothesis.language_probability or 0.0
    if not totals:
        return None, None
    best = max(totals, key=lambda language: totals[language])
    return best, totals[best] / n_votes
