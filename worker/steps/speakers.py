"""Who said what in a job: what ``finish`` makes of its ``diarize`` steps, or of its channels."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.infra.errors import LonghandError, ModelError, Outage, StorageUnavailable
from shared.models.options import SpeakerOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.assign import ChannelLabels, SpeakerLabels
from shared.speech.speakers.spans import on_file_clock
from shared.speech.transcript.manifest import ManifestSpeakers
from shared.speech.transcript.segments import Label
from shared.speech.transcript.transcript import Speaker, TranscriptWarning
from shared.store import steps
from shared.store.objects.keys import activities_key
from shared.store.steps import SpanResult
from worker.diarization.protocol import Activities
from worker.process.runtime import Runtime
from worker.steps.diarizers import cluster_of, entry_of

log = logging.getLogger(__name__)

UNKNOWN = "speakers_unknown"
"""The code of the warning about a transcript that lacks speakers."""


@dataclass(frozen=True, slots=True)
class Speakers:
    """The speakers of a job, as its words are given them."""

    label: Label | None = None
    """None: no word has a speaker."""
    found: Callable[[], list[Speaker] | None] = lambda: None
    """Returns who has words, once all words are labelled; None: it is not known."""
    warnings: Sequence[TranscriptWarning] = ()
    metrics: dict[str, Any] = field(default_factory=dict)
    manifest: ManifestSpeakers | None = None
    """None: no model told them apart."""


def find_speakers(runtime: Runtime, claim: steps.Claim) -> Speakers:
    """Tell the speakers of a job apart, as far as its spans were heard.

    What goes wrong is told by a warning: it never costs the transcript.

    Raises:
        StorageUnavailable, DatabaseUnavailable: try again.
    """
    options = claim.options.speakers
    if options is None:
        return Speakers()
    if options.model is None:
        labels = ChannelLabels()
        return Speakers(labels.label, labels.found)
    begun = time.monotonic()
    spans = steps.span_results(runtime.database, claim.job_id)
    try:
        cluster = cluster_of(runtime.catalogue, options.model)
        heard = [_heard(runtime, claim, span) for span in spans if span.is_done]
        turns = cluster(heard, options.hints).turns if heard else ()
    except Outage:
        raise
    except Exception as error:
        log.exception("the speakers are not told apart")
        why = str(error) if isinstance(error, LonghandError) else "an internal error"
        return Speakers(warnings=[_warning(f"The speakers could not be told apart: {why}.")])
    named = SpeakerLabels(on_file_clock(turns, [span.span for span in spans]))
    return Speakers(
        named.label,
        named.found,
        [_warning(_failed(spans))] if not all(span.is_done for span in spans) else [],
        {"cluster_s": round(time.monotonic() - begun, 3)},
        _manifest(runtime, options, spans),
    )


def _manifest(
    runtime: Runtime, options: SpeakerOptions, spans: Sequence[SpanResult]
) -> ManifestSpeakers:
    assert options.model is not None, "they were told apart"
    model = entry_of(runtime.catalogue, options.model)
    done = [span for span in spans if span.is_done]
    return ManifestSpeakers(
        model=model.id,
        revision=model.revision,
        weights=sorted({span.weights for span in done}),
        engines=sorted({span.engine for span in done}),
        min=options.min,
        max=options.max,
        count=options.count,
        spans=[(span.span.start, span.span.end) for span in done],
    )


def _heard(runtime: Runtime, claim: steps.Claim, span: SpanResult) -> Activities:
    key = activities_key(claim.job_id, span.idx)
    try:
        return Activities.from_bytes(runtime.storage.read(key, 0, span.n_bytes))
    except StorageUnavailable as error:
        if runtime.storage.size(key) is None:
            raise ModelError("what was heard of them is gone") from error
        raise


def _failed(spans: Sequence[SpanResult]) -> str:
    """Return a sentence about the spans whose steps failed."""
    failed = [span for span in spans if not span.is_done]
    seconds = sum(span.span.end - span.span.start for span in failed) / SAMPLE_RATE
    return (
        f"The speakers of {len(failed)} of {len(spans)} parts of the audio, {seconds:.0f} s, could "
        f"not be told apart: {failed[0].error}."
    )


def _warning(detail: str) -> TranscriptWarning:
    return TranscriptWarning(code=UNKNOWN, detail=detail)
