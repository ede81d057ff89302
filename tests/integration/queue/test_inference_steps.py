"""What a model worker does with the steps that it has claimed at once, on real servers."""

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from harness.engines.gated import begin_with
from harness.jobs.job_store import add_stored_job, claim, column, expire, step_ids
from harness.jobs.queues import MODEL_QUEUE
from harness.jobs.step_runner import run_claimed
from harness.jobs.transcripts import get_transcript
from harness.media.recipes import wav
from harness.programs.workers import wait_until
from shared.infra.errors import DeviceOutOfMemory, EngineFailed, StorageUnavailable
from shared.infra.settings import Settings
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.engines.protocol import DecodeOptions, Prepared
from worker.process.runtime import Runtime, make_runtime
from worker.steps import infer, transcribe
from worker.steps.finish import finish
from worker.steps.prepare import prepare
from worker.steps.run import answer
from worker.steps.transcribe import infer_steps

WORDS = range(300, 500)
"""A minute and a half of them: several chunks."""


class SteeredOracle(OracleEngine):
    """An oracle that notes its batches, and first raises what it is told to."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.batches: list[int] = []
        self._errors = list(errors)

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        self.batches.append(len(batch))
        if self._errors:
            raise self._errors.pop(0)
        return super().infer(batch)


@pytest.fixture
def running(settings: Settings) -> Iterator[Runtime]:
    """A runtime that has no model yet."""
    made = make_runtime(settings.model_copy(update={"retry_base_s": 0.0}), "test")
    yield made
    made.close()


@pytest.fixture
def job_id(running: Runtime) -> UUID:
    """A job of several chunks, which are due."""
    return prepared(running)


def prepared(running: Runtime, words: Sequence[int] = WORDS) -> UUID:
    samples, _ = encode(words, gap_s=0.3)
    pcm = (samples * 32767).astype(np.int16)[:, None]
    job_id = add_stored_job(running.database, running.storage, wav(pcm))
    run_claimed(running, step_ids(running.database, job_id, "prepare")[0], prepare)
    return job_id


def with_engine(running: Runtime, engine: OracleEngine, **options: Any) -> Runtime:
    return replace(running, batcher=Batcher(engine, max_wait_ms=200, **options))


def with_one_batch(running: Runtime, engine: OracleEngine, chunks: int) -> Runtime:
    """Have so many chunks heard together, however long their audio takes to read."""
    batcher = Batcher(engine, max_batch=16, max_wait_ms=60_000)
    begin_with(batcher, chunks)
    return replace(running, batcher=batcher)


def infer_all(running: Runtime) -> list[steps.Claim]:
    """Claim as many as the batcher takes, and do them; return the claims."""
    taken = steps.claim_next(
        running.database, MODEL_QUEUE, owner="test", lease_s=30, limit=running.room()
    )
    with running.heartbeat.hold(taken.claims) as leases:
        infer_steps(running, leases)
    return list(taken.claims)


def states(database: Engine, job_id: UUID, name: str = "state") -> list[Any]:
    return [column(database, step, name) for step in step_ids(database, job_id, "transcribe")]


def test_a_claim_takes_as_many_chunks_as_a_batch_and_they_are_heard_together(
    running: Runtime, database: Engine, job_id: UUID
) -> None:
    engine = SteeredOracle()
    others = [prepared(running, range(700, 720)) for _ in range(2)]
    chunks = len(states(database, job_id))
    runtime = with_one_batch(running, engine, chunks + 2)

    assert len(infer_all(runtime)) == chunks + 2

    assert engine.batches == [chunks + 2]
    assert states(database, job_id) == chunks * ["done"]
    assert {get_job(database, "default", other).state for other in others} == {"succeeded"}
    (sizes,) = {timings["batch_size"] for timings in states(database, job_id, "timings")}
    assert sizes == chunks + 2


class FinishingOneByOne(SteeredOracle):
    """An oracle that finishes a chunk once it is told that it may finish so many."""

    def __init__(self) -> None:
        super().__init__()
        self.may_finish = threading.Semaphore(0)

    def finish(self, raw: Any) -> Hypothesis:
        assert self.may_finish.acquire(timeout=60)
        return super().finish(raw)


def test_chunks_of_a_call_are_completed_at_once_though_they_are_finished_one_by_one(
    running: Runtime, database: Engine, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed: list[int] = []
    complete = steps.complete_chunks

    def noted(database: Engine, results: Sequence[Any], **options: Any) -> list[steps.Claim]:
        completed.append(len(results))
        return complete(database, results, **options)

    monkeypatch.setattr(steps, "complete_chunks", noted)
    monkeypatch.setattr(transcribe, "_GATHER_S", 60.0)
    chunks = len(states(database, job_id))
    runtime = with_one_batch(running, engine := FinishingOneByOne(), chunks)
    with ThreadPoolExecutor() as pool:
        inferred = pool.submit(infer_all, runtime)
        for _ in range(chunks):
            engine.may_finish.release()
            threading.Event().wait(0.01)
        inferred.result(60)
    assert completed == [chunks]


def test_the_only_chunk_of_a_job_waits_for_no_other_of_its_call(
    running: Runtime, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "_GATHER_S", 60.0)
    job_ids = [prepared(running, range(700, 720)) for _ in range(2)]

    def succeeded() -> int:
        found = [get_job(database, "default", job_id).state for job_id in job_ids]
        return found.count("succeeded")

    runtime = with_one_batch(running, engine := FinishingOneByOne(), len(job_ids))
    with ThreadPoolExecutor() as pool:
        inferred = pool.submit(infer_all, runtime)
        engine.may_finish.release()
        wait_until(lambda: succeeded() == 1, within_s=30)
        engine.may_finish.release()
        inferred.result(60)
    assert succeeded() == 2


def test_a_canceled_jobs_chunk_that_waits_for_its_batch_is_not_heard(
    settings: Settings, database: Engine
) -> None:
    runtime = make_runtime(settings.model_copy(update={"heartbeat_s": 0.05}), "test")
    job_id, go_on = prepared(runtime), threading.Event()

    class HeldOracle(SteeredOracle):
        def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
            heard = super().infer(batch)
            assert go_on.wait(60)
            return heard

    batcher = Batcher(engine := HeldOracle(), max_batch=1)
    with ThreadPoolExecutor(2) as pool:
        inferred = [pool.submit(infer_all, replace(runtime, batcher=batcher)) for _ in range(2)]
        wait_until(lambda: engine.batches and batcher._schedule._queue)
        cancel_job(database, "default", job_id, max_attempts=3)
        wait_until(batcher._schedule._queue[0].future.cancelled)
        go_on.set()
        assert [len(claimed.result(60)) for claimed in inferred] == [1, 1]
    assert engine.batches == [1]
    assert set(states(database, job_id)) == {"void"}
    runtime.close()


def test_one_wake_up_transcribes_all_chunks_however_many_batches_they_are(
    running: Runtime, database: Engine, job_id: UUID
) -> None:
    engine = SteeredOracle()
    runtime = with_engine(running, engine, max_batch=2)
    answer(runtime, MODEL_QUEUE, infer_steps)
    run_claimed(running, step_ids(database, job_id, "finish")[0], finish)
    transcript = get_transcript(database, "default", job_id)
    assert transcript.text.split() == [word_text(number) for number in WORDS]
    assert max(engine.batches) <= 2 < len(states(database, job_id))


def test_a_chunk_whose_audio_cannot_be_read_is_tried_again_and_the_others_are_done(
    running: Runtime, database: Engine, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = transcribe._read

    def unreadable(runtime: Runtime, item: Any) -> Samples:
        if item.claim.idx == 1:
            raise StorageUnavailable("away")
        return read(runtime, item)

    monkeypatch.setattr(transcribe, "_read", unreadable)
    infer_all(with_engine(running, SteeredOracle(), max_batch=16))
    found = states(database, job_id)
    assert (found.pop(1), set(found)) == ("queued", {"done"})
    assert states(database, job_id, "outages")[1] == 1


def test_a_bug_in_one_batch_costs_its_chunks_an_attempt_and_no_more(
    running: Runtime, database: Engine, job_id: UUID
) -> None:
    chunks = len(states(database, job_id))
    runtime = with_one_batch(running, SteeredOracle(TypeError("a bug")), chunks)
    infer_all(runtime)
    assert set(states(database, job_id)) == {"queued"}
    assert set(states(database, job_id, "attempt")) == {1}
    assert None not in states(database, job_id, "bug")
    answer(runtime, MODEL_QUEUE, infer_steps)
    assert set(states(database, job_id)) == {"done"}


def test_memory_that_runs_out_for_a_single_chunk_is_tried_again(
    running: Runtime, database: Engine
) -> None:
    job_id = prepared(running, range(700, 720))
    runtime = with_engine(running, SteeredOracle(DeviceOutOfMemory("full")), max_batch=1)
    answer(runtime, MODEL_QUEUE, infer_steps)
    assert get_job(database, "default", job_id).state == "running"
    answer(runtime, MODEL_QUEUE, infer_steps)
    assert get_job(database, "default", job_id).state == "succeeded"


def test_an_engine_that_breaks_down_costs_an_attempt_and_stops_the_worker(
    running: Runtime, database: Engine, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[int] = []
    monkeypatch.setattr(infer.os, "kill", lambda _pid, signum: stopped.append(signum))
    chunks = len(states(database, job_id))
    infer_all(with_one_batch(running, SteeredOracle(EngineFailed("lost")), chunks))
    assert set(stopped) == {signal.SIGTERM}
    assert set(states(database, job_id)) == {"queued"}


def test_chunks_that_were_lost_meanwhile_are_dropped_and_the_others_are_done(
    running: Runtime, database: Engine, job_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    canceled = prepared(running, range(700, 900))
    runtime = with_engine(running, SteeredOracle(), max_batch=32)
    taken = steps.claim_next(database, MODEL_QUEUE, owner="test", lease_s=30, limit=32)
    lost = next(each for each in taken.claims if each.job_id == job_id)
    expire(database, lost)
    steps.reap(database)
    cancel_job(database, "default", canceled, max_attempts=3)

    with running.heartbeat.hold(taken.claims) as leases:
        infer_steps(runtime, leases)

    found = states(database, job_id)
    assert (found.pop(lost.idx), set(found)) == ("queued", {"done"})
    assert set(states(database, canceled)) == {"void"}
    assert caplog.text.count("its result is dropped") == 1 + len(states(database, canceled))


def test_the_only_chunk_of_a_canceled_job_leaves_no_transcript(
    running: Runtime, database: Engine
) -> None:
    job_id = prepared(running, range(700, 720))
    claimed = claim(database, job_id, "transcribe")
    cancel_job(database, "default", job_id, max_attempts=3)
    with running.heartbeat.hold([claimed]) as leases:
        infer_steps(with_engine(running, SteeredOracle()), leases)
    assert get_job(database, "default", job_id).state == "canceled"
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM transcripts")).scalar_one() == 0


def test_a_chunk_that_needs_no_call_of_the_engine_is_done(
    running: Runtime, database: Engine
) -> None:
    class OnlySilence(SteeredOracle):
        def prepare(self, samples: Samples, options: DecodeOptions) -> Hypothesis:
            return Hypothesis((), options.language)

    job_id = prepared(running, range(700, 720))
    infer_all(with_engine(running, OnlySilence()))

    job = get_job(database, "default", job_id)
    assert (job.state, job.metrics["inference_s"]) == ("succeeded", 0.0)
    assert job.metrics["unheard_s"] > 0


def test_what_was_attempted_before_is_heard_alone_and_named_while_it_is(
    running: Runtime, database: Engine, job_id: UUID
) -> None:
    expire(database, claim(database, job_id, "transcribe", 1))
    steps.reap(database)
    engine = SteeredOracle()
    others = len(states(database, job_id)) - 1
    infer_all(with_one_batch(running, engine, others))
    assert sorted(engine.batches) == [1, others]
