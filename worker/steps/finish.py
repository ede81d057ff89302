"""The ``finish`` step: stitch the chunks' hypotheses into the transcript."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from shared.infra.errors import DatabaseUnavailable
from shared.speech.chunks import SAMPLE_RATE
from shared.speech.manifest import Decoding, Manifest, ManifestChunk
from shared.speech.stitching import Stitcher, make_header, survey
from shared.speech.transcript import TranscriptHeader
from shared.store import steps
from shared.store.chunks import (
    ChunkOutput,
    as_heard,
    finished_chunks,
    finished_chunks_without_words,
    get_preparation,
)
from shared.store.jobs.accuracy import measure_pending
from shared.store.objects.remover import remove_due
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)

REMOVED_AT_ONCE = 10
"""Of the prefixes that are due to go; the rest is the sweeper's."""


def finish(runtime: Runtime, lease: Lease) -> None:
    """Store the transcript and end the job; then remove its decoded audio.

    Error rates of texts too long to be compared within the job's last transaction come after it.

    Chunks are read and segments written a page at a time: a long job needs no more memory than a
    short one.

    Raises:
        DatabaseUnavailable: try again.
        LeaseLost: somebody else finishes this job now.
    """
    claim, database = lease.claim, runtime.database
    begun = time.monotonic()
    job = get_preparation(database, claim.job_id)
    n_samples = round(job.duration_s * SAMPLE_RATE)
    records = _Records()
    found = survey(as_heard(records.keep(finished_chunks_without_words(database, claim.job_id))))
    channels = job.metrics.get("channels")
    language = claim.options.text_language(claim.language or found.language)
    stitcher = Stitcher(n_samples, language=language)
    numbers = [None] if channels is None else range(channels)

    def header() -> TranscriptHeader:
        return make_header(
            found,
            n_samples=n_samples,
            channels=channels,
            language=claim.language,
            language_probability=job.detected_probability,
            mean_confidence=stitcher.mean_confidence,
            clipped_share=job.metrics.get("clipped_share"),
        )

    def metrics() -> dict[str, Any]:
        return {
            "stitch_s": round(time.monotonic() - begun, 4),
            "inference_s": round(records.inference_s, 3),
        }

    steps.complete_finish(
        database,
        claim,
        segments=stitcher.stitch(
            [
                as_heard(finished_chunks(database, claim.job_id, channel=number))
                for number in numbers
            ]
        ),
        header=header,
        metrics=metrics,
        manifest=_manifest(runtime, claim, records),
    )
    try:
        measure_pending(database)
        # The decoded audio of this job is due; some more that is does not take long.
        remove_due(database, runtime.storage, limit=REMOVED_AT_ONCE)
    except DatabaseUnavailable as error:
        log.warning("%s: what is left to do after a job is done later", error)


class _Records:
    """What the manifest and the metrics tell of a job's chunks."""

    def __init__(self) -> None:
        self.chunks: list[ManifestChunk] = []
        self.inference_s = 0.0
        """Device time: a batch counts once, shared among its items."""
        self._seen: dict[str, set[str]] = {"engine": set(), "weights": set(), "device": set()}

    def keep(self, rows: Iterable[ChunkOutput]) -> Iterator[ChunkOutput]:
        """Pass the rows on, and note them."""
        for row in rows:
            self.chunks.append(ManifestChunk(idx=row.idx, **row.input))
            self.inference_s += row.timings["inference_s"] / row.timings["batch_size"]
            for name, values in self._seen.items():
                if name in row.output:
                    values.add(row.output[name])
            yield row

    def seen(self, name: str) -> list[str]:
        """Return the different values of a member of the outputs; one, unless workers differed."""
        return sorted(self._seen[name])


def _manifest(runtime: Runtime, claim: steps.Claim, records: _Records) -> Manifest:
    options = claim.options
    model = runtime.catalogue.get(options.model)
    return Manifest(
        model=model.id,
        revision=model.revision,
        weights=records.seen("weights"),
        engines=records.seen("engine"),
        devices=records.seen("device"),
        decode=Decoding(
            beam_size=model.decode.beam_size,
            language=claim.language,
            task=options.task,
            prompt=options.prompt,
            hotwords=options.hotwords,
        ),
        vad=options.vad,
        window_s=model.window_s,
        sample_rate=SAMPLE_RATE,
        chunks=records.chunks,
    )
