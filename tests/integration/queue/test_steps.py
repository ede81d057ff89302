"""The step store on real Postgres: claims, fences, completion, reaping."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import (
    CHUNK,
    TRANSCRIPT,
    add_job,
    claim,
    claim_step,
    column,
    expire,
    finish,
    folded,
    prepare,
    step_ids,
    transcribe,
)
from harness.jobs.transcripts import get_transcript
from shared.infra.database import begin
from shared.infra.errors import (
    JobEnded,
    JobNotFound,
    LeaseLost,
    StorageUnavailable,
    TranscriptNotReady,
    UnreadableMedia,
)
from shared.speech.chunks.hypothesis import Hypothesis, hypothesis_to_json
from shared.store import steps
from shared.store.counts import measure_queues
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.end import end_jobs
from shared.store.jobs.read import get_job
from shared.store.queues import CPU_QUEUE
from shared.store.states import JobState, StepKind
from shared.store.steps import ChunkResult, Claim, NewStep
from shared.store.successors import insert_steps


def test_a_job_runs_through_its_steps_to_a_transcript(database: Engine) -> None:
    job_id = add_job(database)
    assert get_job(database, "default", job_id).stage == "queued"
    prepare(database, job_id, chunks=2)
    assert get_job(database, "default", job_id).stage == "transcribing"
    for idx in (0, 1):
        assert step_ids(database, job_id, "finish") == []
        transcribe(database, claim(database, job_id, "transcribe", idx))
    assert get_job(database, "default", job_id).stage == "finishing"
    with pytest.raises(TranscriptNotReady, match="running"):
        get_transcript(database, "default", job_id)
    finish(database, claim(database, job_id, "finish"), stitch_s=0.1)
    job = get_job(database, "default", job_id)
    assert job.state == JobState.SUCCEEDED
    assert job.stage == "done"
    assert job.metrics["stitch_s"] == 0.1
    assert job.metrics["rtfx"] > 0
    assert get_transcript(database, "default", job_id) == TRANSCRIPT


def test_a_job_without_speech_goes_straight_to_finish(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=0)
    assert len(step_ids(database, job_id, "finish")) == 1


def test_chunks_done_before_the_plan_is_complete_still_lead_to_one_finish(
    database: Engine,
) -> None:
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")
    steps.add_chunks(database, preparing, [NewStep(0, CHUNK)], max_attempts=3)
    transcribe(database, claim(database, job_id, "transcribe"))
    assert step_ids(database, job_id, "finish") == []
    steps.complete_prepare(database, preparing, duration_s=1.0, metrics={}, max_attempts=3)
    assert len(step_ids(database, job_id, "finish")) == 1


def test_a_duplicate_message_claims_nothing(database: Engine) -> None:
    job_id = add_job(database)
    claimed = claim(database, job_id, "prepare")
    assert claim_step(database, claimed.step_id, owner="other", lease_s=30) is None
    steps.complete_prepare(database, claimed, duration_s=1.0, metrics={}, max_attempts=3)
    assert claim_step(database, claimed.step_id, owner="other", lease_s=30) is None
    assert claim_step(database, 10**12, owner="other", lease_s=30) is None


def test_of_many_simultaneous_claims_exactly_one_wins(database: Engine) -> None:
    job_id = add_job(database)
    [step_id] = step_ids(database, job_id, "prepare")
    with ThreadPoolExecutor(8) as pool:
        claims = list(
            pool.map(lambda n: claim_step(database, step_id, owner=str(n), lease_s=30), range(16))
        )
    assert len([claimed for claimed in claims if claimed]) == 1


STALE_WRITES: dict[str, Callable[[Engine, Claim], None]] = {
    "complete_prepare": lambda database, claimed: steps.complete_prepare(
        database, claimed, duration_s=9.0, metrics={}, max_attempts=3
    ),
    "complete_transcribe": transcribe,
    "complete_finish": finish,
    "add_chunks": lambda database, claimed: steps.add_chunks(
        database, claimed, [NewStep(7, CHUNK)], max_attempts=3
    ),
    "fail": lambda database, claimed: steps.fail(database, claimed, UnreadableMedia("no")),
    "retry": lambda database, claimed: steps.retry(
        database, claimed, StorageUnavailable("no"), base_s=1
    ),
    "release": steps.release,
}


def snapshot(database: Engine) -> list[object]:
    with database.begin() as connection:
        return [
            connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).all()
            for table in ("jobs", "steps", "job_events", "transcripts")
        ]


@pytest.mark.parametrize("write", STALE_WRITES)
def test_a_stale_epoch_writes_nothing(database: Engine, write: str) -> None:
    job_id = add_job(database)
    stale = claim(database, job_id, "prepare")
    expire(database, stale)
    assert steps.reap(database) == 1
    current = claim(database, job_id, "prepare")
    assert current.epoch == stale.epoch + 1
    before = snapshot(database)
    with pytest.raises(LeaseLost):
        STALE_WRITES[write](database, stale)
    assert snapshot(database) == before
    STALE_WRITES[write](database, current)
    assert snapshot(database) != before


def test_expired_lease_is_requeued_once_and_unexpired_ones_are_left(database: Engine) -> None:
    dead = claim(database, add_job(database), "prepare")
    alive = claim(database, add_job(database), "prepare")
    expire(database, dead)
    assert steps.reap(database) == 1
    assert steps.reap(database) == 0
    assert column(database, dead.step_id, "state") == "queued"
    assert column(database, alive.step_id, "state") == "running"


def test_a_canceled_job_is_claimed_and_completed_no_more(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    running = claim(database, job_id, "transcribe", 0)
    cancel_job(database, "default", job_id, max_attempts=3)
    cancel_job(database, "default", job_id, max_attempts=3)
    assert get_job(database, "default", job_id).state == JobState.CANCELED
    waiting = step_ids(database, job_id, "transcribe")[1]
    assert claim_step(database, waiting, owner="x", lease_s=30) is None
    assert steps.renew(database, [running], lease_s=30) == set()
    with pytest.raises(LeaseLost):
        transcribe(database, running)


def test_a_job_that_has_ended_or_is_anothers_cannot_be_canceled(database: Engine) -> None:
    job_id = add_job(database)
    with pytest.raises(JobNotFound):
        cancel_job(database, "other", job_id, max_attempts=3)
    steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("no"))
    with pytest.raises(JobEnded, match="failed"):
        cancel_job(database, "default", job_id, max_attempts=3)
    assert get_job(database, "default", job_id).state == JobState.FAILED


def test_a_locked_job_does_not_hold_up_the_reaper(database: Engine) -> None:
    locked = claim(database, add_job(database), "prepare")
    other = claim(database, add_job(database), "prepare")
    expire(database, locked)
    expire(database, other)
    with database.begin() as connection:
        connection.execute(
            text("SELECT id FROM jobs WHERE id = :id FOR UPDATE"), {"id": locked.job_id}
        )
        assert steps.reap(database) == 1
    assert column(database, other.step_id, "state") == "queued"
    assert steps.reap(database) == 1


def test_a_renewed_lease_survives_and_a_lost_one_is_told(database: Engine) -> None:
    kept = claim(database, add_job(database), "prepare", lease_s=0.001)
    lost = claim(database, add_job(database), "prepare")
    expire(database, lost)
    assert steps.renew(database, [kept], lease_s=30) == {(kept.step_id, kept.epoch)}
    assert steps.reap(database) == 1
    assert steps.renew(database, [kept, lost], lease_s=30) == {(kept.step_id, kept.epoch)}


def test_no_step_of_a_failed_job_is_claimed_or_completed(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=3)
    running = claim(database, job_id, "transcribe", 0)
    steps.fail(database, claim(database, job_id, "transcribe", 1), UnreadableMedia("no"))
    waiting = step_ids(database, job_id, "transcribe")[2]
    assert claim_step(database, waiting, owner="x", lease_s=30) is None
    assert steps.renew(database, [running], lease_s=30) == set()
    with pytest.raises(LeaseLost):
        transcribe(database, running)


def test_a_repeated_prepare_keeps_the_chunks_already_done(database: Engine) -> None:
    job_id = add_job(database)
    first = claim(database, job_id, "prepare")
    steps.add_chunks(database, first, [NewStep(0, CHUNK), NewStep(1, CHUNK)], max_attempts=3)
    transcribe(database, claim(database, job_id, "transcribe", 0))
    expire(database, first)
    steps.reap(database)
    prepare(database, job_id, chunks=3)
    job = get_job(database, "default", job_id)
    assert (job.chunks_total, job.chunks_done) == (3, 1)
    assert column(database, step_ids(database, job_id, "transcribe")[0], "state") == "done"


def test_chunks_completed_at_once_queue_finish_exactly_once(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=12)
    claims = [claim(database, job_id, "transcribe", idx) for idx in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda claimed: transcribe(database, claimed), claims))
    assert len(step_ids(database, job_id, "finish")) == 1
    assert get_job(database, "default", job_id).chunks_done == 12


def test_the_chunks_of_a_batch_are_completed_at_once_and_stale_ones_are_told(
    database: Engine,
) -> None:
    first, second = add_job(database), add_job(database)
    for job_id in (first, second):
        prepare(database, job_id, chunks=2)
    batch = [
        claim(database, job_id, "transcribe", idx) for job_id in (first, second) for idx in (0, 1)
    ]
    expire(database, batch[0])
    steps.reap(database)
    heard = hypothesis_to_json(Hypothesis(words=()))
    results = [ChunkResult(claimed, heard, {}, audio_s=1.0) for claimed in batch]
    assert steps.complete_chunks(database, results, max_attempts=3) == [batch[0]]
    assert [get_job(database, "default", job_id).chunks_done for job_id in (first, second)] == [
        1,
        2,
    ]
    assert [len(step_ids(database, job_id, "finish")) for job_id in (first, second)] == [0, 1]


def test_the_only_chunk_of_a_job_completes_it(database: Engine) -> None:
    job_id = add_job(database)
    prepared = claim(database, job_id, "prepare")
    only = NewStep(0, CHUNK, audio=bytes(32_000))
    steps.complete_prepare(
        database, prepared, duration_s=1.0, metrics={}, chunks=[only], max_attempts=3
    )
    claimed = claim(database, job_id, "transcribe")
    assert (claimed.only_chunk, claimed.audio, claimed.duration_s) == (True, only.audio, 1.0)
    heard = hypothesis_to_json(Hypothesis(words=()))
    steps.complete_only_chunk(database, ChunkResult(claimed, heard, {}, audio_s=1.0), folded())
    job = get_job(database, "default", job_id)
    assert (job.state, job.chunks_done, job.percent) == ("succeeded", 1, 100)
    assert step_ids(database, job_id, "finish") == []
    assert column(database, claimed.step_id, "audio") is None


def test_a_stale_worker_completes_no_job_with_its_only_chunk(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    claimed = claim(database, job_id, "transcribe")
    expire(database, claimed)
    steps.reap(database)
    heard = hypothesis_to_json(Hypothesis(words=()))
    with pytest.raises(LeaseLost):
        steps.complete_only_chunk(database, ChunkResult(claimed, heard, {}, audio_s=1.0), folded())
    assert get_job(database, "default", job_id).state == "running"


def test_what_is_left_of_a_job_that_ends_is_void_and_in_no_index_of_live_work(
    database: Engine,
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=3)
    transcribe(database, claim(database, job_id, "transcribe", 0))
    claim(database, job_id, "transcribe", 1)
    cancel_job(database, "default", job_id, max_attempts=3)
    chunks = step_ids(database, job_id, "transcribe")
    assert [column(database, step, "state") for step in chunks] == ["done", "void", "void"]
    assert measure_queues(database) == []
    assert steps.reap(database) == 0


def test_the_leases_of_a_process_that_died_end_at_once(database: Engine) -> None:
    died, lives = add_job(database), add_job(database)
    for job_id, owner in ((died, "cpu@host-1/7-a"), (lives, "cpu@host-1/77-b")):
        (step,) = step_ids(database, job_id, "prepare")
        assert claim_step(database, step, owner=owner, lease_s=1000) is not None
    assert steps.expire_leases(database, "cpu@host-1/7-") == 1
    assert steps.reap(database) == 1
    assert [
        column(database, step_ids(database, job_id, "prepare")[0], "state")
        for job_id in (died, lives)
    ] == ["queued", "running"]


def test_only_changes_of_a_jobs_state_and_failed_attempts_leave_events(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    claimed = claim(database, job_id, "transcribe")
    steps.retry(database, claimed, StorageUnavailable("away"), base_s=0)
    transcribe(database, claim(database, job_id, "transcribe"))
    with database.begin() as connection:
        events = connection.execute(
            text("SELECT event FROM job_events WHERE job_id = :id ORDER BY id"), {"id": job_id}
        ).scalars()
        assert list(events) == ["job.queued", "job.running", "step.postponed"]


def test_a_locked_step_holds_up_no_other_lease(database: Engine) -> None:
    locked, free = add_job(database), add_job(database)
    claims = [claim(database, job_id, "prepare", lease_s=1) for job_id in (locked, free)]
    with database.begin() as busy:
        lock = text("SELECT 1 FROM steps WHERE id = :id FOR UPDATE")
        busy.execute(lock, {"id": claims[0].step_id})
        held = steps.renew(database, claims, lease_s=1000)
        busy.execute(lock, {"id": claims[0].step_id})  # fails if Postgres had to end this session
    assert held == {(claim.step_id, claim.epoch) for claim in claims}
    with database.begin() as connection:
        renewed = connection.execute(
            text("SELECT id FROM steps WHERE lease_until > now() + interval '500 s'")
        ).scalars()
        assert list(renewed) == [claims[1].step_id]


def test_a_step_done_tells_how_long_it_was_due_before_it_was_claimed(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    (step,) = step_ids(database, job_id, "transcribe")
    with database.begin() as connection:
        connection.execute(
            text("UPDATE steps SET run_at = run_at - interval '1 hour' WHERE id = :id"),
            {"id": step},
        )
    transcribe(database, claim(database, job_id, "transcribe"))
    timings = column(database, step, "timings")
    assert isinstance(timings, dict)
    assert 3600 <= timings["queue_wait_s"] < 3660


def test_the_statements_of_each_job_are_not_planned_each_time(database: Engine) -> None:
    job_id = add_job(database)
    with begin(database) as connection:
        for _ in range(15):  # the driver prepares a statement that comes often
            insert_steps(connection, job_id, StepKind.FINISH, CPU_QUEUE, [NewStep(0)], 3)
            end_jobs(connection, [job_id])
        plans = connection.execute(
            text("SELECT statement, generic_plans FROM pg_prepared_statements")
        ).all()
        connection.rollback()
    for words in ("AS plan (idx, input, n)", "unfinished AS"):
        (times,) = (n for statement, n in plans if words in statement)
        assert times > 0, words
