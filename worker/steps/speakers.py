"""Who said what in a job: what ``finish`` makes of its ``diarize`` steps, or of its channels."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.infra.errors import LonghandError, ModelError, Outage, StorageUnavailable
from shared.models.options import SpeakerOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.assign import ChannelLabels, SpeakerLabels
from shared.speech.speakers.recognition import Recognized, recognize, voiceprints_of
from shared.speech.speakers.spans import on_file_clock
from shared.speech.speakers.voiceprints import Voiceprints
from shared.speech.transcript.manifest import ManifestSpeakers
from shared.speech.transcript.segments import Label
from shared.speech.transcript.transcript import RecognizedVoice, Speaker, TranscriptWarning
from shared.store import steps
from shared.store.objects.keys import activities_key
from shared.store.steps import SpanResult
from shared.store.voices import known_voices
from worker.diarization.protocol import Activities, Diarization
from worker.process.runtime import Runtime
from worker.steps.diarizers import cluster_of, entry_of

log = logging.getLogger(__name__)

NOBODY = Diarization((), np.zeros((0, 0), np.float32))

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
    voiceprints: Voiceprints | None = None
    """How they sound, where the job is to identify them. Such a job is no original for equal ones:
    other voices may be known by then."""


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
        diarized = cluster(heard, options.hints) if heard else NOBODY
        prints = _voiceprints(runtime, options, diarized)
        recognized = _recognized(runtime, claim, diarized, prints)
    except Outage:
        raise
    except Exception as error:
        log.exception("the speakers are not told apart")
        why = str(error) if isinstance(error, LonghandError) else "an internal error"
        return Speakers(warnings=[_warning(f"The speakers could not be told apart: {why}.")])
    found = SpeakerLabels(on_file_clock(diarized.turns, [span.span for span in spans]))
    return Speakers(
        found.label,
        lambda: [_named(each, recognized.get(each.id)) for each in found.found()],
        [_warning(_failed(spans))] if not all(span.is_done for span in spans) else [],
        {"cluster_s": round(time.monotonic() - begun, 3)},
        _manifest(runtime, options, spans),
        prints,
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


def _voiceprints(
    runtime: Runtime, options: SpeakerOptions, diarized: Diarization
) -> Voiceprints | None:
    """Return how the speakers sound, if the job is to identify them and any were heard."""
    if not options.identify or options.model is None or not len(diarized.centroids):
        return None
    entry = entry_of(runtime.catalogue, options.model)
    return voiceprints_of(entry.id, entry.revision, diarized.centroids)


def _recognized(
    runtime: Runtime, claim: steps.Claim, diarized: Diarization, prints: Voiceprints | None
) -> Mapping[int, Recognized]:
    """Return whom the tenant's voices name, by speaker."""
    if prints is None:
        return {}
    known = known_voices(runtime.database, claim.job_id, prints.model, prints.revision)
    speech_s = [0.0] * len(diarized.centroids)
    for turn in diarized.turns:
        speech_s[turn.speaker] += turn.end_s - turn.start_s
    found = recognize(diarized.centroids, speech_s, known)
    return {speaker: each for speaker, each in enumerate(found) if each is not None}


def _named(speaker: Speaker, recognized: Recognized | None) -> Speaker:
    if recognized is None:
        return speaker
    voice = RecognizedVoice(voice_id=recognized.voice.id, similarity=recognized.similarity)
    return speaker.model_copy(update={"name": recognized.voice.name, "recognized": voice})


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
