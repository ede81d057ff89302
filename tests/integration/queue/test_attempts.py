"""What an attempt at a step costs that ends without its completion."""

from datetime import datetime

import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import (
    add_job,
    claim,
    claim_step,
    column,
    expire,
    prepare,
    step_ids,
)
from shared.infra.errors import (
    EngineFailed,
    StorageUnavailable,
    TransientError,
    UnreadableMedia,
)
from shared.store import steps
from shared.store.jobs.read import get_job
from shared.store.jobs.retry import retry_job
from shared.store.states import JobState
from shared.store.steps import Claim
from shared.store.steps.unfinished import LONGEST_DELAY_S, MAX_OUTAGES
from shared.store.workers import name_suspect


def test_a_step_that_kills_every_worker_fails_its_job(database: Engine) -> None:
    job_id = add_job(database, max_attempts=2)
    for _ in range(2):
        expire(database, claim(database, job_id, "prepare"))
        assert steps.reap(database) == 1
    job = get_job(database, "default", job_id)
    assert job.state == JobState.FAILED
    assert job.error_code == "poisonous_input"
    assert (
        claim_step(database, step_ids(database, job_id, "prepare")[0], owner="x", lease_s=30)
        is None
    )


def test_what_a_worker_held_beside_the_step_it_died_of_has_lost_no_attempt(
    database: Engine,
) -> None:

    guilty, innocent = add_job(database), add_job(database)
    claims = []
    for job_id in (guilty, innocent):
        prepare(database, job_id, chunks=1)
        claims.append(claim(database, job_id, "transcribe", lease_s=0))
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO workers (id, role, queues, slots, state, device, version)
                VALUES ('test', 'model', '{}', 8, 'ready', 'cpu', 'test')
            """)
        )
    name_suspect(database, ["test"], claims[0].step_id)
    assert steps.reap(database) == 2
    assert [column(database, each.step_id, "attempt") for each in claims] == [1, 0]
    again = [claim(database, job_id, "transcribe", lease_s=0) for job_id in (guilty, innocent)]
    name_suspect(database, ["test"], None)
    assert steps.reap(database) == 2
    assert [column(database, each.step_id, "attempt") for each in again] == [2, 1]


def test_a_permanent_error_fails_the_job_at_once(database: Engine) -> None:
    job_id = add_job(database)
    steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("this is a poem"))
    job = get_job(database, "default", job_id)
    assert (job.state, job.error_code, job.error_detail) == (
        JobState.FAILED,
        "unreadable_media",
        "this is a poem",
    )


def test_a_transient_error_is_retried_until_attempts_are_exhausted(database: Engine) -> None:
    job_id = add_job(database, max_attempts=2)
    error = EngineFailed("the engine broke down")
    steps.retry(database, claim(database, job_id, "prepare"), error, base_s=0)
    assert get_job(database, "default", job_id).state == JobState.RUNNING
    steps.retry(database, claim(database, job_id, "prepare"), error, base_s=0)
    job = get_job(database, "default", job_id)
    assert job.state == JobState.FAILED
    assert job.error_code == "engine_failed"


def test_an_outage_costs_no_attempt_until_there_were_too_many(database: Engine) -> None:
    job_id = add_job(database, max_attempts=1)
    away = StorageUnavailable("the object store cannot be reached")
    for _ in range(MAX_OUTAGES - 1):
        claimed = claim(database, job_id, "prepare")
        assert claimed.attempt == 1
        steps.retry(database, claimed, away, base_s=0)
    steps.retry(database, claim(database, job_id, "prepare"), away, base_s=0)
    job = get_job(database, "default", job_id)
    assert (job.state, job.error_code) == (JobState.FAILED, "storage_unavailable")
    retry_job(database, "default", job_id, max_attempts=1)
    assert claim(database, job_id, "prepare").outages == 0


def test_a_retried_step_is_not_claimed_before_its_delay(database: Engine) -> None:
    job_id = add_job(database)
    claimed = claim(database, job_id, "prepare")
    steps.retry(database, claimed, StorageUnavailable("down"), base_s=3600)
    with database.begin() as connection:  # the delay is random: it may be over by now
        connection.execute(text("UPDATE steps SET run_at = run_at + interval '1 minute'"))
    assert claim_step(database, claimed.step_id, owner="x", lease_s=30) is None
    make_due(database, claimed)
    assert claim_step(database, claimed.step_id, owner="x", lease_s=30) is not None


@pytest.mark.parametrize("error", [EngineFailed("broken"), StorageUnavailable("away")])
def test_delays_are_random_from_nothing_to_a_bound_that_doubles(
    database: Engine, error: TransientError
) -> None:
    bounds_s = [2, 4, 8, 16, LONGEST_DELAY_S, LONGEST_DELAY_S]
    # A delay begins within the call, which may take long: so much is it at least, and at most.
    least, most = [], []
    for _ in range(20):
        job_id = add_job(database, max_attempts=len(bounds_s) + 1)
        for bound_s in bounds_s:
            claimed = claim(database, job_id, "prepare")
            before = clock(database)
            steps.retry(database, claimed, error, base_s=2)
            after = clock(database)
            due = make_due(database, claimed)
            least.append((due - after).total_seconds() / bound_s)
            most.append((due - before).total_seconds() / bound_s)
    assert min(most) >= 0
    assert min(least) < 0.1
    assert max(most) > 0.9
    assert max(least) <= 1


def clock(database: Engine) -> datetime:
    with database.begin() as connection:
        return connection.execute(text("SELECT clock_timestamp()")).scalar_one()


def make_due(database: Engine, claimed: Claim) -> datetime:
    """Let a step's delay pass; return when it would have been over."""
    with database.begin() as connection:
        return connection.execute(
            text("""
                UPDATE steps SET run_at = now() FROM steps AS before
                WHERE steps.id = :id AND before.id = steps.id
                RETURNING before.run_at
            """),
            {"id": claimed.step_id},
        ).scalar_one()


def test_a_released_step_has_lost_no_attempt(database: Engine) -> None:
    job_id = add_job(database)
    claimed = claim(database, job_id, "prepare")
    steps.release(database, claimed)
    again = claim(database, job_id, "prepare")
    assert again.attempt == claimed.attempt
    assert again.epoch > claimed.epoch
