"""The ``diarize`` step: hear the speakers of one span of a job's audio."""

import time

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.spans import SpeakerSpan
from shared.store import steps
from shared.store.objects.keys import activities_key
from worker.diarization.protocol import Diarizer
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.pcm import read_span
from worker.steps.run import Handler


def hearing_with(diarizer: Diarizer) -> Handler:
    """Return the handler that hears spans with this diarizer."""

    def diarize(runtime: Runtime, lease: Lease) -> None:
        """Hear the span's speakers and store what was heard.

        It is stored under one key whoever hears it, as all hear the same.

        Raises:
            ModelError: it cannot be heard.
            StorageUnavailable, DatabaseUnavailable: try again.
            LeaseLost: another worker hears it now, or the job has ended.
            WorkerStopping: the worker was told to stop.
        """
        claim = lease.claim
        begun = time.monotonic()
        span = SpeakerSpan.from_json(claim.input)
        audio = read_span(runtime.storage, claim.job_id, span)
        read_at = time.monotonic()
        heard = diarizer.local(audio, span.start / SAMPLE_RATE).to_bytes()
        timings = {
            "read_s": round(read_at - begun, 3),
            "diarize_s": round(time.monotonic() - read_at, 3),
        }
        lease.check()
        runtime.storage.put(activities_key(claim.job_id, claim.idx), heard)
        steps.complete_diarize(
            runtime.database,
            claim,
            output={
                "bytes": len(heard),
                "engine": diarizer.version,
                "weights": diarizer.weights_digest,
            },
            timings=timings,
            max_attempts=runtime.settings.max_attempts,
        )

    return diarize
