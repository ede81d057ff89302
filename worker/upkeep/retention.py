"""Retention: removal of what is past its time, and of objects that nothing needs any more."""

import logging

from shared.infra.errors import DatabaseUnavailable
from shared.store.idempotency import expire_keys
from shared.store.jobs.accuracy import measure_pending
from shared.store.objects.remover import BATCH, remove_due
from shared.store.retention import (
    expire_audio,
    expire_batches,
    expire_jobs,
    expire_listening,
    expire_refused_audio,
    expire_test_events,
    expire_transcripts,
)
from shared.store.states import JobState
from shared.store.usage import add_up_usage
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)


def tidy(runtime: Runtime) -> None:
    """Expire what is past its time, remove due objects, add up usage, measure long references.

    Object stores and long texts are slow, so this has a thread of its own beside the sweep.
    """
    try:
        add_up_usage(runtime.database)
        while _tidy_a_batch(runtime):
            pass
    except DatabaseUnavailable as error:
        log.warning("%s: nothing is tidied up", error)


def _tidy_a_batch(runtime: Runtime) -> bool:
    """Return whether more may be due."""
    database, settings = runtime.database, runtime.settings
    keep_audio_s = {
        JobState.SUCCEEDED: settings.keep_audio_s,
        JobState.CANCELED: settings.keep_audio_s,
        JobState.FAILED: settings.keep_failed_audio_s,
    }
    jobs = expire_jobs(
        database, keep_s=settings.keep_jobs_s, max_attempts=settings.max_attempts, limit=BATCH
    )
    transcripts = expire_transcripts(database, keep_s=settings.keep_transcripts_s, limit=BATCH)
    listening = expire_listening(database, keep_s=settings.keep_listening_s, limit=BATCH)
    batches = expire_batches(database, limit=BATCH)
    keys = expire_keys(database, limit=BATCH)
    tests = expire_test_events(database, keep_s=settings.keep_jobs_s, limit=BATCH)
    audios = [
        expire_audio(database, state, keep_s=keep_s, limit=BATCH)
        for state, keep_s in keep_audio_s.items()
    ]
    refused = expire_refused_audio(database, keep_s=settings.keep_failed_audio_s, limit=BATCH)
    removed = remove_due(database, runtime.storage)
    # One in each round, as a comparison of very long texts takes half a minute.
    measured = measure_pending(database, limit=1)
    audios.append(refused)
    if jobs or transcripts or tests or any(audios):
        log.info(
            "past their time: %d jobs, %d transcripts, audio of %d jobs, %d tests of webhooks",
            *(jobs, transcripts, sum(audios), tests),
        )
    others = listening, batches, keys, tests, removed
    return bool(measured) or BATCH in (jobs, transcripts, *audios, *others)
