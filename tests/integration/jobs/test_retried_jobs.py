"""Jobs that failed or were canceled are taken up again once, and by one worker."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from harness.database.interleaving import each_change_held_up, waiting_sessions
from harness.jobs.ended import HOW, cancel, end, fail, lose_audio, retry, view
from harness.jobs.equal import compute
from harness.jobs.job_store import (
    add_job,
    claim,
    column,
    expire,
    finish,
    prepare,
    step_ids,
    transcribe,
)
from harness.programs.workers import wait_until
from shared.infra.errors import (
    AudioGone,
    EngineFailed,
    JobNotFound,
    JobNotRetryable,
    LeaseLost,
    UnreadableMedia,
)
from shared.store import steps
from shared.store.queues import model_queue
from shared.store.states import JobState
from shared.store.steps import ChunkResult, claim_next
from shared.store.webhooks.endpoints import EventType, add_endpoint

MODEL_QUEUE = model_queue("oracle")


@HOW
def test_what_is_done_stays_and_the_rest_is_queued_with_all_its_attempts(
    database: Engine, how: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=4)
    transcribe(database, claim(database, job_id, "transcribe", 0))
    held = claim(database, job_id, "transcribe", 1)
    expire(database, claim(database, job_id, "transcribe", 2))
    steps.reap(database)
    end(database, job_id, how, "transcribe", 3)

    retry(database, job_id)

    job = view(database, job_id)
    assert (job.state, job.run, job.chunks_done, job.chunks_total) == ("queued", 2, 1, 4)
    assert (job.error_code, job.error_detail, job.finished_at) == (None, None, None)
    chunks = step_ids(database, job_id, "transcribe")
    assert [column(database, chunk, "state") for chunk in chunks] == ["done", *["queued"] * 3]
    assert [column(database, chunk, "attempt") for chunk in chunks] == [1, 0, 0, 0]
    with pytest.raises(LeaseLost):
        transcribe(database, held)
    for idx in (1, 2, 3):
        again = claim(database, job_id, "transcribe", idx)
        assert again.attempt == 1
        transcribe(database, again)
    finish(database, claim(database, job_id, "finish"))
    assert view(database, job_id).state == JobState.SUCCEEDED
    assert "rtfx" not in view(database, job_id).metrics


@HOW
def test_each_run_is_in_the_audit_trail_and_ends_with_its_own_webhook_event(
    database: Engine, how: str
) -> None:
    add_endpoint(
        database,
        "default",
        url="http://127.0.0.1:9/hook",
        description="",
        events=[EventType(f"job.{how}")],
    )
    job_id = add_job(database)
    end(database, job_id, how)
    retry(database, job_id)
    end(database, job_id, how)
    with database.begin() as connection:
        events = connection.execute(
            text("SELECT event FROM job_events WHERE job_id = :id ORDER BY id"), {"id": job_id}
        ).scalars()
        job_events = [event for event in events if event.startswith("job.")]
        ends = connection.execute(
            text("SELECT run, type FROM webhook_events WHERE job_id = :id ORDER BY run"),
            {"id": job_id},
        ).all()
    first_run = ["job.queued", "job.running", f"job.{how}"]
    assert job_events == [*first_run, "job.retried", "job.running", f"job.{how}"]
    assert [tuple(told) for told in ends] == [(1, f"job.{how}"), (2, f"job.{how}")]


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_a_job_that_neither_failed_nor_was_canceled_is_not_retried(
    database: Engine, state: str
) -> None:
    job_id = add_job(database)
    if state == "running":
        claim(database, job_id, "prepare")
    elif state == "succeeded":
        compute(database, job_id)
    with pytest.raises(JobNotRetryable, match=state):
        retry(database, job_id)
    assert (view(database, job_id).state, view(database, job_id).run) == (state, 1)


def test_another_tenants_job_is_not_retried(database: Engine) -> None:
    job_id = add_job(database)
    fail(database, job_id)
    with pytest.raises(JobNotFound):
        retry(database, job_id, tenant="them")


def test_a_job_canceled_before_anything_was_begun_is_retried(database: Engine) -> None:
    job_id = add_job(database)
    cancel(database, job_id)
    retry(database, job_id)
    compute(database, job_id)
    assert (view(database, job_id).state, view(database, job_id).run) == ("succeeded", 2)


def test_a_retried_job_is_canceled_again_and_retried_again(database: Engine) -> None:
    job_id = add_job(database)
    for run in (1, 2, 3):
        assert view(database, job_id).run == run
        end(database, job_id, "canceled")
        retry(database, job_id)
    compute(database, job_id)
    assert view(database, job_id).state == JobState.SUCCEEDED


@HOW
def test_what_an_ended_job_leaves_undone_is_void_until_the_retry(
    database: Engine, how: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=4)
    transcribe(database, claim(database, job_id, "transcribe", 0))
    held = claim(database, job_id, "transcribe", 1)
    end(database, job_id, how, "transcribe", 3)

    done, running, queued, last = step_ids(database, job_id, "transcribe")
    assert column(database, done, "state") == "done"
    assert {column(database, step, "state") for step in (running, queued)} == {"void"}
    assert column(database, last, "state") == ("failed" if how == "failed" else "void")
    assert claim_next(database, MODEL_QUEUE, owner="test", lease_s=30).claims == []
    assert steps.renew(database, [held], lease_s=30) == set()
    expire(database, held)
    assert steps.reap(database) == 0

    retry(database, job_id)

    taken = claim_next(database, MODEL_QUEUE, owner="test", lease_s=30, limit=4)
    assert [each.step_id for each in taken.claims] == [running, queued, last]


@HOW
def test_a_retried_job_takes_its_turns_anew(database: Engine, how: str) -> None:
    """It neither goes before those who waited meanwhile, nor behind all of them."""
    early, late = add_job(database), add_job(database)
    prepare(database, early, chunks=3)
    end(database, early, how, "transcribe")
    prepare(database, late, chunks=4)
    for _ in range(2):
        (taken,) = claim_next(database, MODEL_QUEUE, owner="test", lease_s=30).claims
        assert taken.job_id == late

    retry(database, early)

    order = [
        claim_next(database, MODEL_QUEUE, owner="test", lease_s=30).claims[0].job_id
        for _ in range(5)
    ]
    assert order == [early, late, early, late, early]


@HOW
def test_of_two_claims_of_a_chunk_in_a_batch_the_one_of_before_the_retry_is_lost(
    database: Engine, how: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    stale = claim(database, job_id, "transcribe", 0)
    end(database, job_id, how, "transcribe", 1)
    retry(database, job_id)
    current = claim(database, job_id, "transcribe", 0)

    heard = [ChunkResult(each, {"words": []}, {}, audio_s=1.0) for each in (stale, current)]

    assert steps.complete_chunks(database, heard, max_attempts=2) == [stale]
    assert view(database, job_id).chunks_done == 1


@HOW
def test_of_retries_at_once_one_wins(database: Engine, how: str) -> None:
    job_id = add_job(database)
    end(database, job_id, how)

    def attempt(_: int) -> bool:
        try:
            retry(database, job_id)
        except JobNotRetryable:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(12))) == 1
    assert view(database, job_id).run == 2
    assert claim(database, job_id, "prepare").attempt == 1


# --- workers that have not noticed yet ---


@HOW
def test_a_stale_workers_completion_is_refused_before_within_and_after_the_retry(
    database: Engine, how: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    stale = claim(database, job_id, "transcribe", 0)
    end(database, job_id, how, "transcribe", 1)

    def assert_refused() -> None:
        with pytest.raises(LeaseLost):
            transcribe(database, stale)

    assert_refused()
    with ThreadPoolExecutor(2) as pool, each_change_held_up(database):
        retried = pool.submit(retry, database, job_id)
        wait_until(lambda: waiting_sessions(database) == 1)
        within = pool.submit(transcribe, database, stale)
        # It is refused at once, or waits for the retry: as Postgres plans the statement.
        wait_until(lambda: within.done() or waiting_sessions(database) == 2)
    retried.result(60)
    with pytest.raises(LeaseLost):
        within.result(60)
    assert_refused()
    again = claim(database, job_id, "transcribe", 0)
    assert_refused()
    transcribe(database, again)
    assert view(database, job_id).chunks_done == 1


@HOW
def test_a_reaper_that_looked_before_the_retry_does_not_requeue_what_is_running_again(
    database: Engine, how: str
) -> None:
    job_id = add_job(database, max_attempts=1)
    prepare(database, job_id, chunks=2)
    stale = claim(database, job_id, "transcribe", 0)
    end(database, job_id, how, "transcribe", 1)
    expire(database, stale)
    retry(database, job_id)
    assert steps.reap(database) == 0
    current = claim(database, job_id, "transcribe", 0)
    assert steps.reap(database) == 0
    assert steps.renew(database, [stale, current], lease_s=30) == {(current.step_id, current.epoch)}
    assert current.epoch > stale.epoch + 1


@HOW
def test_a_released_chunk_of_a_job_that_ended_since_is_not_done_twice(
    database: Engine, how: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    stale = claim(database, job_id, "transcribe", 0)
    end(database, job_id, how, "transcribe", 1)
    retry(database, job_id)
    with pytest.raises(LeaseLost):
        steps.release(database, stale)
    with pytest.raises(LeaseLost):
        steps.retry(database, stale, EngineFailed("late"), base_s=0)
    with pytest.raises(LeaseLost):
        steps.fail(database, stale, UnreadableMedia("late"))
    assert view(database, job_id).state == JobState.QUEUED


# --- audio that is gone ---


@HOW
def test_a_retry_that_needs_audio_which_is_gone_is_refused_and_changes_nothing(
    database: Engine, how: str
) -> None:
    unprepared, half = add_job(database), add_job(database)
    end(database, unprepared, how)
    prepare(database, half, chunks=2)
    transcribe(database, claim(database, half, "transcribe", 0))
    end(database, half, how, "transcribe", 1)
    lose_audio(database, how)
    for job_id in (unprepared, half):
        with pytest.raises(AudioGone):
            retry(database, job_id)
        assert (view(database, job_id).state, view(database, job_id).run) == (how, 1)


@HOW
def test_a_job_that_ended_when_all_was_heard_is_finished_without_its_audio(
    database: Engine, how: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    transcribe(database, claim(database, job_id, "transcribe"))
    end(database, job_id, how, "finish")
    lose_audio(database, how)
    retry(database, job_id)
    finish(database, claim(database, job_id, "finish"))
    assert view(database, job_id).state == JobState.SUCCEEDED
