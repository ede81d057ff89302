"""Jobs whose speakers are told apart: steps of their own, which never cost the transcript."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from harness.engines.loud_voices import QUIET, TOLD_APART, LoudVoices, catalogue_with_loud_voices
from harness.jobs.job_store import claim, step_ids
from harness.jobs.preparations import objects, prepare_again, replace_options, speech, submit
from harness.jobs.registry import enter_worker
from harness.jobs.step_runner import run_claimed
from harness.jobs.transcripts import get_transcript
from shared.infra.errors import ModelError
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.options import SpeakerOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers import spans
from shared.speech.transcript.transcript import Transcript
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job, get_manifest
from shared.store.jobs.retry import retry_job
from shared.store.jobs.unserved import fail_unserved, give_up_speakers
from shared.store.jobs.waits import find_waits
from shared.store.objects.remover import remove_due
from shared.store.states import JobState
from shared.store.usage import read_usage
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine
from worker.process.runtime import Runtime, make_runtime
from worker.steps import speakers
from worker.steps.diarize import hearing_with
from worker.steps.finish import finish
from worker.steps.prepare import prepare


@pytest.fixture
def diarizer(monkeypatch: pytest.MonkeyPatch) -> LoudVoices:
    loud = LoudVoices()
    monkeypatch.setattr(speakers, "cluster_of", lambda *_: loud.cluster)
    return loud


@pytest.fixture
def runtime(settings: Settings, diarizer: LoudVoices) -> Iterator[Runtime]:
    runtime = replace(
        make_runtime(settings, "test"),
        batcher=Batcher(OracleEngine()),
        catalogue=catalogue_with_loud_voices(settings),
    )
    yield runtime
    runtime.close()


def dialogue(*at_s: float) -> np.ndarray:
    """Ten seconds of words from each of the times on, by two speakers in turns."""
    audio = speech(*at_s)
    for start_s in at_s[1::2]:
        start = round(start_s * SAMPLE_RATE)
        audio[start : start + 10 * SAMPLE_RATE] *= QUIET
    return audio


def diarize(runtime: Runtime, diarizer: LoudVoices, job_id: UUID) -> None:
    for step_id in step_ids(runtime.database, job_id, "diarize"):
        run_claimed(runtime, step_id, hearing_with(diarizer))


def transcribe(runtime: Runtime, job_id: UUID) -> None:
    for step_id in step_ids(runtime.database, job_id, "transcribe"):
        run_claimed(runtime, step_id)


def end(runtime: Runtime, job_id: UUID) -> Transcript:
    (step_id,) = step_ids(runtime.database, job_id, "finish")
    run_claimed(runtime, step_id, finish)
    return get_transcript(runtime.database, "default", job_id)


def prepared(runtime: Runtime, audio: np.ndarray, **asked: int) -> UUID:
    options = SpeakerOptions(model="loud-voices", **asked)
    job_id = submit(runtime, replace_options(TOLD_APART, speakers=options), audio)
    (step_id,) = step_ids(runtime.database, job_id, "prepare")
    run_claimed(runtime, step_id, prepare)
    return job_id


def test_words_get_their_speakers_and_segments_have_one_each(
    runtime: Runtime, diarizer: LoudVoices
) -> None:
    job_id = prepared(runtime, dialogue(1.0, 12.0, 24.0))
    transcribe(runtime, job_id)
    diarize(runtime, diarizer, job_id)
    found = end(runtime, job_id)

    spoken = [word.speaker for segment in found.segments for word in segment.words]
    assert spoken == [0] * 20 + [1] * 20 + [0] * 20
    for segment in found.segments:
        assert {word.speaker for word in segment.words} == {segment.speaker}
    assert [paragraph.speaker for paragraph in found.paragraphs] == [0, 1, 0]
    assert found.speakers is not None
    assert [(each.id, each.name) for each in found.speakers] == [(0, "Speaker 0"), (1, "Speaker 1")]
    assert found.warnings == []


def test_manifest_and_usage_tell_of_the_diarization(runtime: Runtime, diarizer: LoudVoices) -> None:
    job_id = prepared(runtime, dialogue(1.0, 12.0), min=2)
    transcribe(runtime, job_id)
    diarize(runtime, diarizer, job_id)
    with runtime.database.begin() as connection:
        connection.execute(
            text("""UPDATE steps SET timings = '{"diarize_s": 7.5}' WHERE kind = 'diarize';
                    UPDATE steps SET timings = timings || '{"inference_s": 0.25, "batch_size": 1}'
                    WHERE kind = 'transcribe'""")
        )
        n_chunks = connection.execute(
            text("SELECT count(*) FROM steps WHERE kind = 'transcribe'")
        ).scalar_one()
    end(runtime, job_id)
    manifest = json.loads(get_manifest(runtime.database, "default", job_id))
    entry = runtime.catalogue.diarizers["loud-voices"]
    (span,) = steps.span_results(runtime.database, job_id)
    assert manifest["speakers"] == {
        "model": "loud-voices",
        "revision": entry.revision,
        "engines": ["loudness 1"],
        "weights": ["sha256:none"],
        "min": 2,
        "max": None,
        "count": None,
        "spans": [[span.span.start, span.span.end]],
    }
    today = datetime.now(UTC).date()
    (used,) = read_usage(runtime.database, "default", today - timedelta(days=1), today)
    assert used.model_s == 7.5 + 0.25 * n_chunks


def test_the_number_of_speakers_that_was_asked_for_reaches_the_diarizer(
    runtime: Runtime, diarizer: LoudVoices
) -> None:
    job_id = prepared(runtime, dialogue(1.0, 12.0), count=1)
    transcribe(runtime, job_id)
    diarize(runtime, diarizer, job_id)
    assert {segment.speaker for segment in end(runtime, job_id).segments} == {0}


@pytest.mark.parametrize("order", [("chunks", "spans"), ("spans", "chunks")])
def test_finish_waits_for_chunks_and_spans_in_any_order(
    runtime: Runtime, diarizer: LoudVoices, order: tuple[str, str]
) -> None:
    job_id = prepared(runtime, dialogue(1.0))
    for what in order:
        assert step_ids(runtime.database, job_id, "finish") == []
        if what == "chunks":
            transcribe(runtime, job_id)
        else:
            diarize(runtime, diarizer, job_id)
    assert len(step_ids(runtime.database, job_id, "finish")) == 1


def test_a_long_recording_is_heard_in_spans_and_a_repeated_prepare_plans_the_same(
    runtime: Runtime, diarizer: LoudVoices, monkeypatch: pytest.MonkeyPatch, storage: Storage
) -> None:
    monkeypatch.setattr(spans, "SPAN_SAMPLES", 25 * SAMPLE_RATE)
    job_id = prepared(runtime, dialogue(1.0, 14.0, 27.0, 40.0, 53.0))
    planned = steps.span_results(runtime.database, job_id)
    assert len(planned) > 1
    transcribe(runtime, job_id)
    diarize(runtime, diarizer, job_id)
    assert objects(runtime, job_id) > {f"jobs/{str(job_id)[:8]}/{job_id}/pcm/speakers/00000"}

    found = end(runtime, job_id)
    spoken = [word.speaker for segment in found.segments for word in segment.words]
    assert spoken == [0] * 20 + [1] * 20 + [0] * 20 + [1] * 20 + [0] * 20
    remove_due(runtime.database, storage)
    assert not any("speakers" in key for key in objects(runtime, job_id))

    again = submit(runtime, TOLD_APART, dialogue(1.0, 14.0, 27.0, 40.0, 53.0))
    (step_id,) = step_ids(runtime.database, again, "prepare")
    run_claimed(runtime, step_id, prepare)
    prepare_again(runtime, again)
    assert [each.span for each in steps.span_results(runtime.database, again)] == [
        each.span for each in planned
    ]


def test_a_failed_diarization_costs_no_transcript(runtime: Runtime, diarizer: LoudVoices) -> None:
    job_id = prepared(runtime, dialogue(1.0, 12.0))
    transcribe(runtime, job_id)
    failing = claim(runtime.database, job_id, "diarize")
    steps.fail(runtime.database, failing, ModelError("the network failed"))
    with runtime.database.begin() as connection:
        connection.execute(text("UPDATE jobs SET fingerprint = 'f'"))
    found = end(runtime, job_id)

    # An equal job is to try anew.
    with runtime.database.begin() as connection:
        assert connection.execute(text("SELECT fingerprint FROM jobs")).scalars().all() == [None]
    job = get_job(runtime.database, "default", job_id)
    assert job.state is JobState.SUCCEEDED
    assert [warning.code for warning in found.warnings] == ["speakers_unknown"]
    assert "the network failed" in found.warnings[0].detail
    assert {word.speaker for segment in found.segments for word in segment.words} == {None}


def test_a_diarizer_that_cannot_cluster_costs_no_transcript(
    runtime: Runtime, diarizer: LoudVoices, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = prepared(runtime, dialogue(1.0, 12.0))
    transcribe(runtime, job_id)
    diarize(runtime, diarizer, job_id)
    monkeypatch.setattr(speakers, "cluster_of", lambda *_: None)
    found = end(runtime, job_id)
    assert [warning.code for warning in found.warnings] == ["speakers_unknown"]
    assert found.speakers is None


def test_what_was_heard_of_other_spans_is_kept_where_one_fails(
    runtime: Runtime, diarizer: LoudVoices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "SPAN_SAMPLES", 15 * SAMPLE_RATE)
    job_id = prepared(runtime, dialogue(1.0, 30.0))
    first = claim(runtime.database, job_id, "diarize")
    steps.fail(runtime.database, first, ModelError("the network failed"))
    transcribe(runtime, job_id)
    diarize(runtime, diarizer, job_id)
    found = end(runtime, job_id)
    spoken = [word.speaker for segment in found.segments for word in segment.words]
    assert spoken == [None] * 20 + [0] * 20
    assert [warning.code for warning in found.warnings] == ["speakers_unknown"]


def give_up(database: Engine) -> int:
    return give_up_speakers(database, wait_s=60, live_s=30)


def test_a_job_goes_on_once_nobody_has_told_speakers_apart_for_too_long(runtime: Runtime) -> None:
    database = runtime.database
    enter_worker(database, "beat", started_s_ago=3600)
    job_id = prepared(runtime, dialogue(1.0))
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET run_at = run_at - interval '1 hour'"))
    assert give_up(database) == 0, "it is not transcribed"
    transcribe(runtime, job_id)
    waiting = find_waits(database, [job_id], live_s=30)[job_id]
    assert waiting.detail == "a worker for model loud-voices, to tell its speakers apart"

    enter_worker(database, "diarize", "loud-voices", seen_s_ago=45)
    assert give_up(database) == 0, "a worker was there"
    assert fail_unserved(database, wait_s=60, live_s=30) == 0
    enter_worker(database, "diarize", "loud-voices", seen_s_ago=75)
    assert fail_unserved(database, wait_s=60, live_s=30) == 0, "no job fails for that"
    assert (give_up(database), give_up(database)) == (1, 0)

    found = end(runtime, job_id)
    (warning,) = found.warnings
    assert warning.code == "speakers_unknown"
    assert warning.detail.endswith("no worker for model 'loud-voices' has been there for 1 minute.")
    assert {word.speaker for segment in found.segments for word in segment.words} == {None}


def test_channels_are_speakers_without_a_step(runtime: Runtime) -> None:
    options = replace_options(TOLD_APART, multichannel=True, speakers=SpeakerOptions())
    job_id = submit(runtime, options, speech(1.0), speech(12.0, word=50))
    (step_id,) = step_ids(runtime.database, job_id, "prepare")
    run_claimed(runtime, step_id, prepare)
    assert step_ids(runtime.database, job_id, "diarize") == []
    transcribe(runtime, job_id)
    found = end(runtime, job_id)
    assert [(each.channel, each.speaker) for each in found.paragraphs] == [(0, 0), (1, 1)]
    assert found.speakers is not None
    assert [each.name for each in found.speakers] == ["Channel 0", "Channel 1"]


def test_a_retried_job_looks_for_its_speakers_again(runtime: Runtime, diarizer: LoudVoices) -> None:
    job_id = prepared(runtime, dialogue(1.0))
    failing = claim(runtime.database, job_id, "diarize")
    steps.fail(runtime.database, failing, ModelError("the network failed"))
    cancel_job(runtime.database, "default", job_id, max_attempts=3)
    retry_job(runtime.database, "default", job_id, max_attempts=3)
    diarize(runtime, diarizer, job_id)
    transcribe(runtime, job_id)
    found = end(runtime, job_id)
    assert found.warnings == []
    assert {segment.speaker for segment in found.segments} == {0}


def test_a_job_without_speech_has_no_speakers(runtime: Runtime) -> None:
    job_id = prepared(runtime, np.zeros(5 * SAMPLE_RATE, np.float32))
    found = end(runtime, job_id)
    assert (found.speakers, found.warnings) == ([], [])
