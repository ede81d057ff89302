"""From a stored file to its transcript: the handlers of the steps, on real servers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim, column, step_ids
from harness.jobs.preparations import (
    objects,
    plan_of,
    prepare_again,
    replace_options,
    run_all,
    speech,
    start_preparing,
    submit,
    texts,
    words_of,
)
from harness.jobs.removals import remove_all
from harness.jobs.step_runner import run_claimed
from harness.jobs.transcripts import get_transcript
from shared.infra.errors import StorageUnavailable
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.transcript.manifest import Manifest
from shared.speech.transcript.transcript import Segment
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job, get_manifest
from shared.store.jobs.retry import retry_job
from shared.store.objects.keys import source_key
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, word_text
from worker.process.runtime import Runtime, make_runtime
from worker.steps import prepare as preparing

APART = ResolvedOptions(model="oracle", vad="energy", multichannel=True)


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = replace(make_runtime(settings, "test"), batcher=Batcher(OracleEngine()))
    yield running
    running.close()


def test_each_channel_of_a_call_has_its_own_words_at_their_times(runtime: Runtime) -> None:
    left, right = speech(1, 25, word=100), speech(5, word=500)
    job_id = submit(runtime, APART, left, right)

    transcript = run_all(runtime, job_id)

    assert words_of(transcript.segments, 0) == texts(100, 40)
    assert words_of(transcript.segments, 1) == texts(500, 20)
    assert transcript.channels == 2
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(starts)
    assert [segment.id for segment in transcript.segments] == list(range(len(starts)))
    (first_right,) = (s for s in transcript.segments if s.words[0].text == word_text(500))
    assert first_right.start == pytest.approx(5.26, abs=0.01)
    assert transcript.speech_s + transcript.skipped_s == pytest.approx(transcript.duration_s)
    assert [idx for idx, _ in plan_of(runtime.database, job_id)] == [0, 1, 2]
    metrics = get_job(runtime.database, "default", job_id).metrics
    assert metrics["channels"] == 2
    assert metrics.keys() >= {"prepare_s", "decode_s", "vad_s", "stitch_s", "inference_s"}
    remove_all(runtime.database, runtime.storage)
    assert objects(runtime, job_id) == {source_key(job_id)}


def test_a_mono_file_asked_for_by_channel_is_channel_0(runtime: Runtime) -> None:
    transcript = run_all(runtime, submit(runtime, APART, speech(0, word=7)))

    assert words_of(transcript.segments, 0) == texts(7, 20)
    assert transcript.channels == 1


def test_mixed_channels_are_one_and_the_manifest_tells_how_it_was_made(runtime: Runtime) -> None:
    mixed = replace_options(APART, multichannel=False)
    job_id = submit(runtime, mixed, speech(0, word=7), speech(0, word=7))

    transcript = run_all(runtime, job_id)

    assert [word.text for s in transcript.segments for word in s.words] == texts(7, 20)
    assert {segment.channel for segment in transcript.segments} == {None}
    assert all((segment.confidence or 0) > 0.9 for segment in transcript.segments)
    assert (transcript.channels, transcript.warnings) == (None, [])
    stored = get_manifest(runtime.database, "default", job_id)
    manifest = Manifest.model_validate_json(stored)
    assert manifest.engines == [OracleEngine.version]
    assert manifest.weights == [OracleEngine.weights_digest]
    assert manifest.devices == ["cpu float64"]
    assert manifest.vad == "energy"
    [chunk] = manifest.chunks
    assert (chunk.idx, chunk.channel) == (0, None)
    assert 0 <= chunk.core_start < chunk.core_end


@pytest.mark.parametrize("channels", [1, 2])
def test_the_only_chunk_of_a_short_file_needs_no_object_and_no_finish(
    runtime: Runtime, channels: int
) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, np.float32)
    options = replace_options(APART, multichannel=channels > 1)
    job_id = submit(runtime, options, *[silence, speech(2, word=7)][-channels:])
    start_preparing(runtime, job_id)
    (chunk,) = step_ids(runtime.database, job_id, "transcribe")
    assert column(runtime.database, chunk, "length(audio) BETWEEN 2 * 16000 AND 2 * 480000")
    assert objects(runtime, job_id) == {source_key(job_id)}

    run_claimed(runtime, chunk)

    assert step_ids(runtime.database, job_id, "finish") == []
    assert get_job(runtime.database, "default", job_id).state == "succeeded"
    transcript = get_transcript(runtime.database, "default", job_id)
    assert [word.text for s in transcript.segments for word in s.words] == texts(7, 20)
    first = transcript.segments[0].words[0]
    assert first.start == pytest.approx(2.26, abs=0.01)
    assert column(runtime.database, chunk, "audio") is None
    metrics = get_job(runtime.database, "default", job_id).metrics
    assert metrics.keys() >= {"prepare_s", "stitch_s", "inference_s", "rtfx"}


def test_an_only_chunk_that_is_repeated_has_its_audio_still(runtime: Runtime) -> None:
    job_id = submit(runtime, APART, speech(2, word=7))
    start_preparing(runtime, job_id)
    steps.release(runtime.database, claim(runtime.database, job_id, "transcribe"))
    cancel_job(runtime.database, "default", job_id, max_attempts=3)
    retry_job(runtime.database, "default", job_id, max_attempts=3)

    run_claimed(runtime, step_ids(runtime.database, job_id, "transcribe")[0])

    transcript = get_transcript(runtime.database, "default", job_id)
    assert words_of(transcript.segments, 0) == texts(7, 20)


def test_the_only_chunk_of_a_long_file_is_read_from_the_store_which_is_tidied_up(
    runtime: Runtime,
) -> None:
    """Somebody speaks, and is silent for so long that the audio is stored meanwhile."""
    quiet = np.zeros(150 * SAMPLE_RATE, np.float32)
    heard = np.concatenate([speech(2, word=7), quiet])
    job_id = submit(runtime, replace_options(APART, multichannel=False), heard)
    start_preparing(runtime, job_id)
    (chunk,) = step_ids(runtime.database, job_id, "transcribe")
    assert column(runtime.database, chunk, "audio") is None
    assert len(objects(runtime, job_id)) == 2

    run_claimed(runtime, chunk)

    assert step_ids(runtime.database, job_id, "finish") == []
    transcript = get_transcript(runtime.database, "default", job_id)
    assert [word.text for s in transcript.segments for word in s.words] == texts(7, 20)
    remove_all(runtime.database, runtime.storage)
    assert objects(runtime, job_id) == {source_key(job_id)}


def test_a_file_in_which_nobody_speaks_is_finished_without_any_chunk(runtime: Runtime) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, np.float32)
    job_id = submit(runtime, replace_options(APART, multichannel=False), silence)
    transcript = run_all(runtime, job_id)
    assert (transcript.text, transcript.speech_s, transcript.duration_s) == ("", 0.0, 20.0)
    assert step_ids(runtime.database, job_id, "transcribe") == []


def test_clipped_audio_is_warned_of(runtime: Runtime) -> None:
    too_loud = np.clip(speech(0) * 20, -1, 1)

    transcript = run_all(runtime, submit(runtime, job_store.ORACLE, too_loud))

    assert "clipped_audio" in [warning.code for warning in transcript.warnings]


def test_a_repeated_prepare_finds_the_same_plan(runtime: Runtime) -> None:
    job_id = submit(runtime, APART, speech(0, 25), speech(12, 50))
    start_preparing(runtime, job_id)
    first = plan_of(runtime.database, job_id)

    prepare_again(runtime, job_id)

    assert plan_of(runtime.database, job_id) == first
    assert get_job(runtime.database, "default", job_id).chunks_total == len(first) == 4


def test_how_much_is_planned_is_told_while_the_rest_is_being_decoded(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[float, float]] = []

    def spy(
        database: Engine, claimed: steps.Claim, chunks: Any, *, share: float, **rest: Any
    ) -> None:
        planned = max(chunk.input["core_end"] + chunk.input["stride_right"] for chunk in chunks)
        told.append((share, planned))
        add_chunks(database, claimed, chunks, share=share, **rest)

    add_chunks = steps.add_chunks
    monkeypatch.setattr(preparing.steps, "add_chunks", spy)
    audio = speech(*range(0, 900, 20))
    start_preparing(runtime, submit(runtime, job_store.ORACLE, audio))

    assert len(told) > 3
    assert [share for share, _ in told] == pytest.approx(
        [planned / len(audio) for _, planned in told], rel=0.02
    )


def test_a_finish_that_breaks_off_leaves_nothing_behind(database: Engine) -> None:
    job_id = add_job(database)
    job_store.prepare(database, job_id, chunks=0)
    claimed = claim(database, job_id, "finish")
    (segment,) = job_store.TRANSCRIPT.segments

    def segments() -> Iterator[Segment]:
        for number in range(700):
            yield segment.model_copy(update={"id": number})
        raise StorageUnavailable("gone")

    with pytest.raises(StorageUnavailable):
        job_store.finish(
            database, claimed, job_store.TRANSCRIPT.model_copy(update={"segments": segments()})
        )

    assert get_job(database, "default", job_id).state == "running"
    job_store.finish(database, claimed)
    assert get_transcript(database, "default", job_id) == job_store.TRANSCRIPT
