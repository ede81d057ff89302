"""Speech that a model leaves out at first, on real servers."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import add_stored_job, column, step_ids
from harness.jobs.queues import MODEL_QUEUE
from harness.jobs.step_runner import run_claimed
from harness.jobs.transcripts import get_transcript
from harness.media.recipes import wav
from harness.programs.workers import wait_until
from shared.infra.settings import Settings
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.chunks.unheard import CONTEXTS_SAMPLES
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.engines.protocol import Prepared
from worker.process.runtime import Runtime, make_runtime
from worker.steps.finish import finish
from worker.steps.prepare import prepare
from worker.steps.run import answer
from worker.steps.transcribe import infer_steps

WORDS = range(300, 340)
SENTENCE = 10
"""Words that a careless model leaves out at a chunk's end."""
GAP_S = 0.2


class CarelessOracle(OracleEngine):
    """Leaves out the last words of whole chunks; hears slices of them well, or as it is told."""

    def __init__(self, whole_s: float) -> None:
        super().__init__()
        self.slices_s: list[float] = []
        self._whole_s = whole_s

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        lengths_s = [len(item.input.samples) / SAMPLE_RATE for item in batch]
        return [*map(self._steer, lengths_s, super().infer(batch))]

    def _steer(self, duration_s: float, heard: Hypothesis) -> Hypothesis:
        if duration_s >= self._whole_s:
            return replace(heard, words=heard.words[:-SENTENCE])
        self.slices_s.append(duration_s)
        return self.hear_slice(heard)

    def hear_slice(self, heard: Hypothesis) -> Hypothesis:
        return heard


@pytest.fixture
def running(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(settings.model_copy(update={"heartbeat_s": 0.05}), "test")
    yield made
    made.close()


def prepared(running: Runtime, words: Sequence[int] = WORDS) -> UUID:
    samples, _ = encode(words, gap_s=GAP_S)
    pcm = (samples * 32767).astype(np.int16)[:, None]
    job_id = add_stored_job(running.database, running.storage, wav(pcm))
    run_claimed(running, step_ids(running.database, job_id, "prepare")[0], prepare)
    return job_id


def transcribed(running: Runtime, engine: OracleEngine, job_id: UUID) -> Any:
    runtime = replace(running, batcher=Batcher(engine, max_wait_ms=50, max_batch=4))
    answer(runtime, MODEL_QUEUE, infer_steps)
    for step_id in step_ids(running.database, job_id, "finish"):
        run_claimed(running, step_id, finish)
    return get_transcript(running.database, "default", job_id)


def said(words: Sequence[int]) -> list[str]:
    return [word_text(number) for number in words]


def timings(database: Engine, job_id: UUID) -> list[Any]:
    return [column(database, step, "timings") for step in step_ids(database, job_id, "transcribe")]


def test_a_sentence_that_was_left_out_is_heard_again_and_stands_once(
    running: Runtime, database: Engine
) -> None:
    job_id, engine = prepared(running), CarelessOracle(whole_s=10)

    transcript = transcribed(running, engine, job_id)

    assert transcript.text.split() == said(WORDS)
    assert [warning.code for warning in transcript.warnings] == []
    assert get_job(database, "default", job_id).metrics["unheard_s"] == 0
    (kept,) = timings(database, job_id)
    assert kept["reheard"] == len(engine.slices_s) == 1
    assert kept["reheard_s"] >= 0
    sentence_s = SENTENCE * (0.24 + GAP_S)
    assert engine.slices_s[0] < sentence_s + CONTEXTS_SAMPLES[0] / SAMPLE_RATE + 1


def test_a_long_files_chunks_are_each_heard_again_once(running: Runtime, database: Engine) -> None:
    words = range(300, 500)
    job_id, engine = prepared(running, words), CarelessOracle(whole_s=15)

    transcript = transcribed(running, engine, job_id)

    assert transcript.text.split() == said(words)
    assert get_job(database, "default", job_id).metrics["unheard_s"] == 0
    assert len(engine.slices_s) == len(timings(database, job_id))


def test_speech_that_is_never_heard_is_reported_with_its_place(
    running: Runtime, database: Engine
) -> None:
    class DeafOracle(CarelessOracle):
        def hear_slice(self, heard: Hypothesis) -> Hypothesis:
            return replace(heard, words=())

    job_id, engine = prepared(running), DeafOracle(whole_s=10)

    transcript = transcribed(running, engine, job_id)

    assert transcript.text.split() == said(WORDS[:-SENTENCE])
    (warning,) = transcript.warnings
    start_s = len(WORDS[:-SENTENCE]) * (0.24 + GAP_S)
    assert warning.code == "unheard"
    assert f"from {start_s:.1f}"[:-1] in warning.detail
    assert 3 < get_job(database, "default", job_id).metrics["unheard_s"] < 6
    (output,) = (
        column(database, step, "output") for step in step_ids(database, job_id, "transcribe")
    )
    assert len(output["unheard"]) == 1
    assert len(engine.slices_s) == len(CONTEXTS_SAMPLES)


def test_an_answer_that_repeats_itself_is_not_kept(running: Runtime, database: Engine) -> None:
    class LoopingOracle(CarelessOracle):
        def hear_slice(self, heard: Hypothesis) -> Hypothesis:
            return replace(heard, loop_suspected=True)

    job_id = prepared(running)

    transcript = transcribed(running, LoopingOracle(whole_s=10), job_id)

    assert transcript.text.split() == said(WORDS[:-SENTENCE])
    assert [warning.code for warning in transcript.warnings] == ["unheard"]


def test_a_job_that_is_canceled_while_a_slice_waits_is_not_heard_on(
    running: Runtime, database: Engine
) -> None:
    heard_again, go_on = threading.Event(), threading.Event()

    class HeldOracle(CarelessOracle):
        def hear_slice(self, heard: Hypothesis) -> Hypothesis:
            heard_again.set()
            assert go_on.wait(60)
            return heard

    job_id, engine = prepared(running, range(300, 500)), HeldOracle(whole_s=15)
    batcher = Batcher(engine, max_wait_ms=50, max_batch=1)
    runtime = replace(running, batcher=batcher)
    taken = steps.claim_next(database, MODEL_QUEUE, owner="test", lease_s=30, limit=4)
    with running.heartbeat.hold(taken.claims) as leases:
        worker = threading.Thread(target=infer_steps, args=(runtime, leases))
        worker.start()
        assert heard_again.wait(60)
        wait_until(lambda: len(batcher._schedule._queue) == len(taken.claims) - 1)
        cancel_job(database, "default", job_id, max_attempts=3)
        wait_until(lambda: all(item.future.cancelled() for item in batcher._schedule._queue))
        go_on.set()
        worker.join(60)

    assert not worker.is_alive()
    assert len(engine.slices_s) == 1
    assert {
        column(database, step, "state") for step in step_ids(database, job_id, "transcribe")
    } == {"void"}
