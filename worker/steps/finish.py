"""The ``finish`` step: stitch the chunks' hypotheses into the transcript."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from shared.infra.errors import DatabaseUnavailable
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.transcript.manifest import Decoding, Manifest, ManifestChunk
from shared.speech.transcript.stitching import Stitcher, make_header, survey, to_seconds
from shared.speech.transcript.transcript import TranscriptHeader, TranscriptWarning
from shared.store import steps
from shared.store.chunks import (
    ChunkOutput,
    as_heard,
    finished_chunks,
    finished_chunks_without_words,
)
from shared.store.jobs.accuracy import measure_pending
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.speakers import Speakers, find_speakers

log = logging.getLogger(__name__)


def finish(runtime: Runtime, lease: Lease) -> None:
    """Store the transcript and end the job; then measure it against a long reference, if any.

    Chunks are read and segments written a page at a time, so a long job needs no more memory than a
    short one.

    Raises:
        DatabaseUnavailable: try again.
        LeaseLost: another worker finishes this job now.
    """
    claim, database = lease.claim, runtime.database
    speakers = find_speakers(runtime, claim)
    folded = fold(
        runtime,
        claim,
        speakers,
        lambda: finished_chunks_without_words(database, claim.job_id),
        lambda channel: finished_chunks(database, claim.job_id, channel=channel),
    )
    listening = runtime.settings.keep_listening_s > 0
    steps.complete_finish(
        database,
        claim,
        folded,
        voiceprints=speakers.voiceprints,
        listening=listening,
        shared=not speakers.warnings and speakers.voiceprints is None,
    )
    try:
        measure_pending(database)
    except DatabaseUnavailable as error:
        log.warning("%s: error rates are measured later", error)


def fold(
    runtime: Runtime,
    claim: steps.Claim,
    speakers: Speakers,
    without_words: Callable[[], Iterable[ChunkOutput]],
    chunks: Callable[[int | None], Iterable[ChunkOutput]],
) -> steps.Folded:
    """Fold a job's chunks into its transcript, with its speakers, while its segments are read.

    ``without_words`` returns all chunks in order; their words may be missing. ``chunks`` returns
    those of a channel in order, with words; None stands for all channels mixed.
    """
    begun = time.monotonic()
    assert claim.duration_s is not None, "the job is prepared"
    n_samples = round(claim.duration_s * SAMPLE_RATE)
    records = _Records()
    found = survey(as_heard(records.keep(without_words())))
    channels = claim.metrics.get("channels")
    language = claim.options.text_language(claim.language or found.language)
    stitcher = Stitcher(n_samples, language=language, label=speakers.label)
    numbers = [None] if channels is None else range(channels)

    def header() -> TranscriptHeader:
        made = make_header(
            found,
            n_samples=n_samples,
            channels=channels,
            language=claim.language,
            language_probability=claim.detected_probability,
            mean_confidence=stitcher.mean_confidence,
            clipped_share=claim.metrics.get("clipped_share"),
            of_the_file=map(TranscriptWarning.model_validate, claim.metrics.get("warnings", ())),
        )
        warnings = [*made.warnings, *speakers.warnings]
        return made.model_copy(update={"speakers": speakers.found(), "warnings": warnings})

    def metrics() -> dict[str, Any]:
        return {
            "stitch_s": round(time.monotonic() - begun, 4),
            "inference_s": round(records.inference_s, 3),
            "unheard_s": to_seconds(sum(end - start for start, end in found.unheard)),
            **speakers.metrics,
        }

    return steps.Folded(
        segments=stitcher.stitch([as_heard(chunks(number)) for number in numbers]),
        header=header,
        metrics=metrics,
        manifest=lambda: _manifest(runtime, claim, records, speakers),
    )


class _Records:
    """The parts of a job's chunks that manifest and metrics need."""

    def __init__(self) -> None:
        self.chunks: list[ManifestChunk] = []
        self.inference_s = 0.0
        """Device time: a batch's is divided among its items."""
        self._seen: dict[str, set[str]] = {"engine": set(), "weights": set(), "device": set()}

    def keep(self, rows: Iterable[ChunkOutput]) -> Iterator[ChunkOutput]:
        """Yield the rows and record them."""
        for row in rows:
            self.chunks.append(ManifestChunk(idx=row.idx, **row.input))
            # Silence is in no batch.
            self.inference_s += row.timings["inference_s"] / max(1, row.timings["batch_size"])
            self.inference_s += row.timings.get("reheard_s", 0.0)
            for name, values in self._seen.items():
                if name in row.output:
                    values.add(row.output[name])
            yield row

    def seen(self, name: str) -> list[str]:
        """Return the distinct values of a member of the outputs: one, unless workers differed."""
        return sorted(self._seen[name])


def _manifest(
    runtime: Runtime, claim: steps.Claim, records: _Records, speakers: Speakers
) -> Manifest:
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
        speakers=speakers.manifest,
    )
