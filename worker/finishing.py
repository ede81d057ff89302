"""The ``finish`` step: stitch the chunks' hypotheses into the transcript."""

import logging
import time

from shared import steps
from shared.errors import StorageUnavailable
from shared.jobs import finished_chunks
from worker.audio import SAMPLE_RATE
from worker.chunks import chunk_from_json, hypothesis_from_json
from worker.heartbeat import Lease
from worker.pcm import pcm_prefix
from worker.runtime import Runtime
from worker.stitching import stitch

log = logging.getLogger(__name__)


def finish(runtime: Runtime, lease: Lease) -> None:
    """Store the transcript and end the job; then drop its decoded audio.

    Raises:
        DatabaseUnavailable: try again.
        LeaseLost: somebody else finishes this job now.
    """
    claim = lease.claim
    begun = time.monotonic()
    job = finished_chunks(runtime.database, claim.job_id)
    transcript = stitch(
        (
            (chunk_from_json(row.idx, row.input), hypothesis_from_json(row.output))
            for row in job.chunks
        ),
        n_samples=round(job.duration_s * SAMPLE_RATE),
        language=claim.language,
    )
    model = runtime.catalogue.get(claim.model)
    steps.complete_finish(
        runtime.database,
        claim,
        transcript=transcript,
        metrics={
            "stitch_s": round(time.monotonic() - begun, 4),
            "inference_s": round(sum(row.timings["inference_s"] for row in job.chunks), 3),
        },
        manifest={
            "model": model.id,
            "revision": model.revision,
            "engines": sorted({row.output["engine"] for row in job.chunks}),
            "decode": {"beam_size": model.decode.beam_size, "language": claim.language},
            "vad": claim.vad,
            "window_s": model.window_s,
            "sample_rate": SAMPLE_RATE,
            "chunks": [row.input for row in job.chunks],
        },
    )
    try:
        runtime.storage.delete_prefix(pcm_prefix(claim.job_id))
    except StorageUnavailable as error:
        log.warning("%s: decoded audio of job %s stays behind", error, claim.job_id)
