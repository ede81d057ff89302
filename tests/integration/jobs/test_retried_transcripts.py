"""Jobs that failed or were canceled, through the real handlers: retried, they end word for word."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import ORACLE, add_stored_job, claim, claim_step, column, step_ids
from harness.jobs.removals import remove_all
from harness.jobs.step_runner import run_claimed
from harness.jobs.transcripts import get_transcript
from harness.media.recipes import wav
from harness.servers.api_server import stored
from shared.infra.errors import EngineFailed
from shared.infra.settings import Settings
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job
from shared.store.jobs.retry import retry_job
from shared.store.objects.keys import source_key
from shared.store.states import JobState
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps import prepare as preparing
from worker.steps.finish import finish
from worker.steps.prepare import prepare
from worker.steps.run import Handler

WORDS = range(300, 600)
"""Two and a half minutes of them: more than a piece of decoded audio, and several chunks."""
HANDLERS: dict[str, Handler | None] = {"prepare": prepare, "transcribe": None, "finish": finish}


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = replace(make_runtime(settings, "test"), batcher=Batcher(OracleEngine()))
    yield running
    running.close()


@pytest.fixture(scope="module")
def source() -> bytes:
    samples, _ = encode(WORDS, gap_s=0.3)
    return wav((samples * 32767).astype(np.int16)[:, None])


@pytest.fixture
def job_id(runtime: Runtime, source: bytes) -> UUID:
    return add_stored_job(runtime.database, runtime.storage, source)


def run(runtime: Runtime, job_id: UUID, kind: str, *idxs: int) -> None:
    """Do the steps of a kind, or those named, that can be claimed."""
    found = step_ids(runtime.database, job_id, kind)
    for step_id in [found[idx] for idx in idxs] if idxs else found:
        run_claimed(runtime, step_id, HANDLERS[kind])


def done(database: Engine, job_id: UUID) -> dict[int, tuple[int, datetime]]:
    """The epoch in which each finished step of a job was done, and when."""
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT id, epoch, finished_at FROM steps WHERE job_id = :id AND state = 'done'
            """),
            {"id": job_id},
        )
        return {row.id: (row.epoch, row.finished_at) for row in rows}


def break_down(runtime: Runtime, job_id: UUID, kind: str, idx: int = 0) -> None:
    steps.fail(runtime.database, claim(runtime.database, job_id, kind, idx), EngineFailed("so"))


def fail_in_prepare(runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch) -> None:
    """Fail half way, when a part of the plan is there and its first chunk is transcribed."""
    read_audio = preparing.read_audio

    def broken(*arguments: Any, **options: Any) -> Iterator[Any]:
        for block in read_audio(*arguments, **options):
            yield block
            if step_ids(runtime.database, job_id, "transcribe"):
                run(runtime, job_id, "transcribe", 0)
                raise EngineFailed("half way")

    with runtime.database.begin() as connection:
        connection.execute(text("UPDATE steps SET max_attempts = 1"))
    with patch.context() as patched:
        patched.setattr(preparing, "read_audio", broken)
        run(runtime, job_id, "prepare")


def cancel(runtime: Runtime, job_id: UUID) -> None:
    cancel_job(runtime.database, "default", job_id, max_attempts=3)
    # Whatever the cancellation made superfluous is gone before the retry.
    remove_all(runtime.database, runtime.storage)


def cancel_in_prepare(runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch) -> None:
    """Cancel half way, when a part of the plan is there and its first chunk is transcribed."""
    add_chunks = steps.add_chunks

    def cancel_then(*arguments: Any, **options: Any) -> None:
        add_chunks(*arguments, **options)
        run(runtime, job_id, "transcribe", 0)
        cancel(runtime, job_id)

    with patch.context() as patched:
        patched.setattr(steps, "add_chunks", cancel_then)
        run(runtime, job_id, "prepare")


def cancel_in_a_chunk(runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch) -> None:
    run(runtime, job_id, "prepare")
    run(runtime, job_id, "transcribe", 0, 2)
    claim(runtime.database, job_id, "transcribe", 1)
    cancel(runtime, job_id)


def cancel_in_finish(runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch) -> None:
    run(runtime, job_id, "prepare")
    run(runtime, job_id, "transcribe")
    claim(runtime.database, job_id, "finish")
    cancel(runtime, job_id)


def fail_in_a_chunk(runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch) -> None:
    run(runtime, job_id, "prepare")
    run(runtime, job_id, "transcribe", 0, 2)
    break_down(runtime, job_id, "transcribe", 1)


def fail_in_a_chunk_while_it_is_prepared(
    runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch
) -> None:
    add_chunks = steps.add_chunks

    def break_down_at_once(*arguments: Any, **options: Any) -> None:
        add_chunks(*arguments, **options)
        break_down(runtime, job_id, "transcribe")

    with patch.context() as patched:
        patched.setattr(steps, "add_chunks", break_down_at_once)
        run(runtime, job_id, "prepare")


def fail_in_finish(runtime: Runtime, job_id: UUID, patch: pytest.MonkeyPatch) -> None:
    run(runtime, job_id, "prepare")
    run(runtime, job_id, "transcribe")
    break_down(runtime, job_id, "finish")


@pytest.mark.parametrize(
    ("end", "kept"),
    [
        (fail_in_prepare, 1),
        (fail_in_a_chunk, 2),
        (fail_in_a_chunk_while_it_is_prepared, 0),
        (fail_in_finish, None),
        (cancel_in_prepare, 1),
        (cancel_in_a_chunk, 2),
        (cancel_in_finish, None),
    ],
)
def test_a_retried_job_ends_with_one_right_transcript_and_does_no_chunk_again(
    runtime: Runtime, job_id: UUID, monkeypatch: pytest.MonkeyPatch, end: Any, kept: int | None
) -> None:
    end(runtime, job_id, monkeypatch)
    ended = get_job(runtime.database, "default", job_id)
    assert ended.state == ("failed" if end.__name__.startswith("fail") else "canceled")
    assert ended.chunks_done == (ended.chunks_total if kept is None else kept)

    done_before = done(runtime.database, job_id)
    retry_job(runtime.database, "default", job_id, max_attempts=3)
    for kind in HANDLERS:
        run(runtime, job_id, kind)

    job = get_job(runtime.database, "default", job_id)
    assert (job.state, job.run, job.error_detail) == (JobState.SUCCEEDED, 2, None)
    transcript = get_transcript(runtime.database, "default", job_id)
    assert transcript.text.split() == [word_text(number) for number in WORDS]
    assert job.chunks_done == job.chunks_total
    assert done(runtime.database, job_id).items() >= done_before.items()
    remove_all(runtime.database, runtime.storage)
    left = {key for key in stored(runtime.storage) if str(job_id) in key}
    assert left == {source_key(job_id)}


def test_chunks_that_wait_for_the_language_still_do_when_its_detection_is_retried(
    runtime: Runtime, source: bytes
) -> None:
    detecting = ORACLE.model_copy(update={"model": "whisper-base", "language": None})
    job_id = add_stored_job(runtime.database, runtime.storage, source, options=detecting)
    prepare(runtime, Lease(claim(runtime.database, job_id, "prepare")))
    break_down(runtime, job_id, "detect")

    retry_job(runtime.database, "default", job_id, max_attempts=3)

    chunks = step_ids(runtime.database, job_id, "transcribe")
    first = chunks[0]
    assert claim_step(runtime.database, first, owner="test", lease_s=30) is None
    steps.complete_detect(
        runtime.database,
        claim(runtime.database, job_id, "detect"),
        language="en",
        probability=0.9,
        timings={},
    )
    assert column(runtime.database, first, "state") == "queued"
    assert claim_step(runtime.database, first, owner="test", lease_s=30) is not None
