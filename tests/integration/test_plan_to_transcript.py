"""From a stored file to its transcript: the handlers of the steps, on real servers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import jobstore
import numpy as np
import pytest
from apiserver import stored
from jobstore import add_job, add_stored_job, claim, column, step_ids
from media import wav
from processes import wait_until
from queues import MODEL_QUEUE
from removals import remove_all
from sqlalchemy import Engine, text
from steprunner import run_claimed
from transcripts import get_transcript

from shared.infra.database import begin
from shared.infra.errors import StorageUnavailable
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE
from shared.speech.manifest import Manifest
from shared.speech.transcript import Segment, Transcript
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job, get_manifest
from shared.store.jobs.retry import retry_job
from shared.store.steps import NewStep
from shared.store.steps.claims import fence
from shared.store.successors import release_held
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps import prepare as preparing
from worker.steps.finish import finish
from worker.steps.prepare import prepare

APART = ResolvedOptions(model="oracle", vad="energy", multichannel=True)
DETECTING = ResolvedOptions(model="whisper-base", vad="energy")
HELD = "steps.run_at = 'infinity'"


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = replace(make_runtime(settings, "test"), batcher=Batcher(OracleEngine()))
    yield running
    running.close()


def speech(*at_s: float, word: int = 0) -> Samples:
    """Ten seconds of words from each of the times on, silence in between, numbered from word."""
    parts, end = [], 0
    for begin_s in at_s:
        samples, _ = encode(range(word, word + 20), gap_s=0.26)
        parts += [np.zeros(round(begin_s * SAMPLE_RATE) - end, np.float32), samples]
        end = round(begin_s * SAMPLE_RATE) + len(samples)
        word += 20
    return np.concatenate(parts)


def submit(runtime: Runtime, options: ResolvedOptions, *channels: Samples) -> UUID:
    n_samples = max(map(len, channels))
    both = np.stack([np.pad(samples, (0, n_samples - len(samples))) for samples in channels])
    file = wav((both.T * 32767).astype(np.int16), channels=len(channels))
    return add_stored_job(runtime.database, runtime.storage, file, options=options)


def run_all(runtime: Runtime, job_id: UUID) -> Transcript:
    """Run every step of a job whose model is the oracle."""
    for kind, handler in (("prepare", prepare), ("transcribe", None), ("finish", finish)):
        for step_id in step_ids(runtime.database, job_id, kind):
            run_claimed(runtime, step_id, handler)
    return get_transcript(runtime.database, "default", job_id)


def start_preparing(runtime: Runtime, job_id: UUID) -> steps.Claim:
    claimed = claim(runtime.database, job_id, "prepare")
    prepare(runtime, Lease(claimed))
    return claimed


def prepare_again(runtime: Runtime, job_id: UUID) -> None:
    """As after a crash just before the end."""
    with begin(runtime.database) as connection:
        connection.execute(
            text("UPDATE steps SET state = 'queued' WHERE job_id = :id AND kind = 'prepare'"),
            {"id": job_id},
        )
    start_preparing(runtime, job_id)


def plan_of(database: Engine, job_id: UUID, where: str = "true") -> list[Any]:
    with begin(database) as connection:
        return [
            (row.idx, row.input)
            for row in connection.execute(
                text(f"""
                    SELECT idx, input FROM steps
                    WHERE job_id = :id AND kind = 'transcribe' AND {where} ORDER BY idx
                """),
                {"id": job_id},
            )
        ]


def objects(runtime: Runtime, job_id: UUID) -> set[str]:
    """The keys of a job's objects."""
    return {key for key in stored(runtime.storage) if str(job_id) in key}


def words_of(segments: list[Segment], channel: int) -> list[str]:
    return [word.text for found in segments if found.channel == channel for word in found.words]


def texts(first: int, n_words: int) -> list[str]:
    return [word_text(number) for number in range(first, first + n_words)]


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
    assert objects(runtime, job_id) == {f"jobs/{job_id}/source"}


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


def replace_options(options: ResolvedOptions, **changes: object) -> ResolvedOptions:
    return options.model_copy(update=changes)


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
    assert objects(runtime, job_id) == {f"jobs/{job_id}/source"}

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
    """Two minutes of silence, the first piece of audio, and then somebody speaks."""
    job_id = submit(runtime, replace_options(APART, multichannel=False), speech(130, word=7))
    start_preparing(runtime, job_id)
    (chunk,) = step_ids(runtime.database, job_id, "transcribe")
    assert column(runtime.database, chunk, "audio") is None
    assert len(objects(runtime, job_id)) == 3

    run_claimed(runtime, chunk)

    assert step_ids(runtime.database, job_id, "finish") == []
    transcript = get_transcript(runtime.database, "default", job_id)
    assert [word.text for s in transcript.segments for word in s.words] == texts(7, 20)
    remove_all(runtime.database, runtime.storage)
    assert objects(runtime, job_id) == {f"jobs/{job_id}/source"}


def test_a_file_in_which_nobody_speaks_is_finished_without_any_chunk(runtime: Runtime) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, np.float32)
    job_id = submit(runtime, replace_options(APART, multichannel=False), silence)
    transcript = run_all(runtime, job_id)
    assert (transcript.text, transcript.speech_s, transcript.duration_s) == ("", 0.0, 20.0)
    assert step_ids(runtime.database, job_id, "transcribe") == []


def test_clipped_audio_is_warned_of(runtime: Runtime) -> None:
    too_loud = np.clip(speech(0) * 20, -1, 1)

    transcript = run_all(runtime, submit(runtime, jobstore.ORACLE, too_loud))

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
    start_preparing(runtime, submit(runtime, jobstore.ORACLE, audio))

    assert len(told) > 3
    assert [share for share, _ in told] == pytest.approx(
        [planned / len(audio) for _, planned in told], rel=0.02
    )


def test_chunks_wait_until_the_language_is_detected(runtime: Runtime) -> None:
    job_id = submit(runtime, DETECTING, speech(0, 20, 40, 60))
    start_preparing(runtime, job_id)
    plan = plan_of(runtime.database, job_id)
    assert len(plan) > 1
    assert plan_of(runtime.database, job_id, HELD) == plan

    detecting = claim(runtime.database, job_id, "detect")
    chunks = [chunk for _, chunk in plan]
    assert all(chunk in chunks for chunk in detecting.input["chunks"])
    steps.complete_detect(runtime.database, detecting, language="de", probability=0.9, timings={})

    assert plan_of(runtime.database, job_id, HELD) == []
    assert claim(runtime.database, job_id, "transcribe").language == "de"


def test_detection_does_not_wait_for_the_end_of_a_long_file(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "DETECT_AFTER_SAMPLES", 40 * SAMPLE_RATE)
    job_id = submit(runtime, DETECTING, speech(*range(0, 300, 20)))

    start_preparing(runtime, job_id)

    (step,) = step_ids(runtime.database, job_id, "detect")
    heard = column(runtime.database, step, "input")["chunks"]  # type: ignore[index]
    assert len(heard) == 3
    # The first piece of stored audio is two minutes long.
    assert max(chunk["core_end"] for chunk in heard) <= 120 * SAMPLE_RATE
    assert len(plan_of(runtime.database, job_id, HELD)) > 8


def test_the_only_chunk_of_a_job_detects_its_language_itself(runtime: Runtime) -> None:
    job_id = submit(runtime, DETECTING, speech(0))

    start_preparing(runtime, job_id)

    assert len(plan_of(runtime.database, job_id)) == 1
    assert plan_of(runtime.database, job_id, HELD) == []
    assert step_ids(runtime.database, job_id, "detect") == []


@pytest.mark.parametrize(
    "options",
    [
        replace_options(DETECTING, language="en"),
        replace_options(DETECTING, multilingual=True),
        jobstore.ORACLE,
    ],
)
def test_nothing_waits_where_no_language_is_to_be_detected(
    runtime: Runtime, options: ResolvedOptions
) -> None:
    job_id = submit(runtime, options, speech(0, 20, 40))

    start_preparing(runtime, job_id)

    assert plan_of(runtime.database, job_id) != []
    assert plan_of(runtime.database, job_id, HELD) == []
    assert step_ids(runtime.database, job_id, "detect") == []


@pytest.mark.parametrize("detected", [False, True])
def test_a_repeated_prepare_detects_once_and_holds_what_was_held(
    runtime: Runtime, detected: bool
) -> None:
    job_id = submit(runtime, DETECTING, speech(0, 20, 40))
    start_preparing(runtime, job_id)
    plan = plan_of(runtime.database, job_id)
    if detected:
        detecting = claim(runtime.database, job_id, "detect")
        steps.complete_detect(
            runtime.database, detecting, language=None, probability=None, timings={}
        )

    prepare_again(runtime, job_id)

    assert plan_of(runtime.database, job_id) == plan
    assert plan_of(runtime.database, job_id, HELD) == ([] if detected else plan)
    assert len(step_ids(runtime.database, job_id, "detect")) == 1


def test_a_chunk_added_while_the_language_becomes_known_is_not_stranded(
    database: Engine,
) -> None:
    job_id = add_job(database)
    planning = claim(database, job_id, "prepare")
    steps.add_chunks(database, planning, [NewStep(0, jobstore.CHUNK)], max_attempts=3, hold=True)
    steps.add_detect(database, planning, [jobstore.CHUNK], max_attempts=3)
    detecting = claim(database, job_id, "detect")

    with ThreadPoolExecutor(1) as pool:
        with begin(database) as completing:
            # What complete_detect does, stopped midway.
            fence(completing, detecting)
            adding = pool.submit(
                steps.add_chunks,
                database,
                planning,
                [NewStep(1, jobstore.CHUNK)],
                max_attempts=3,
                hold=True,
            )
            wait_until(lambda: somebody_waits_for_a_lock(database))
            completing.execute(text("UPDATE steps SET state = 'done' WHERE kind = 'detect'"))
            release_held(completing, job_id, MODEL_QUEUE)
        adding.result(timeout=10)

    assert plan_of(database, job_id, HELD) == []


def somebody_waits_for_a_lock(database: Engine) -> bool:
    with begin(database) as connection:
        waits = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(connection.execute(waits).scalar_one())


def test_a_finish_that_breaks_off_leaves_nothing_behind(database: Engine) -> None:
    job_id = add_job(database)
    jobstore.prepare(database, job_id, chunks=0)
    claimed = claim(database, job_id, "finish")
    (segment,) = jobstore.TRANSCRIPT.segments

    def segments() -> Iterator[Segment]:
        for number in range(700):
            yield segment.model_copy(update={"id": number})
        raise StorageUnavailable("gone")

    with pytest.raises(StorageUnavailable):
        jobstore.finish(
            database, claimed, jobstore.TRANSCRIPT.model_copy(update={"segments": segments()})
        )

    assert get_job(database, "default", job_id).state == "running"
    jobstore.finish(database, claimed)
    assert get_transcript(database, "default", job_id) == jobstore.TRANSCRIPT
