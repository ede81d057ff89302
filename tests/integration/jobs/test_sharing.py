"""Equal jobs on real Postgres: computed once, whatever else happens at the same moment."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.interleaving import interleave, waiting_sessions
from harness.jobs.equal import compute, store, submit
from harness.jobs.job_store import MANIFEST, claim, expire, step_ids
from harness.programs.workers import wait_until
from shared.infra.errors import JobEnded, JobNotFound, LeaseLost, LonghandError, UnreadableMedia
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import JobView, get_job, get_manifest
from shared.store.states import JobState

ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)


def cancel(database: Engine, job_id: UUID, tenant: str = "default") -> None:
    cancel_job(database, tenant, job_id, max_attempts=2)


def fail(database: Engine, job_id: UUID) -> None:
    steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("this is a poem"))


def view(database: Engine, job_id: UUID, tenant: str = "default") -> JobView:
    return get_job(database, tenant, job_id)


def computes(database: Engine, job_id: UUID) -> bool:
    """Whether the job has steps of its own."""
    return bool(step_ids(database, job_id, "prepare"))


def field(database: Engine, job_id: UUID, name: str) -> object:
    with database.begin() as connection:
        found = connection.execute(text(f"SELECT {name} FROM jobs WHERE id = :id"), {"id": job_id})
        return found.scalar_one()


def test_a_job_equal_to_one_that_succeeded_is_born_with_its_transcript(database: Engine) -> None:
    original = submit(database)
    compute(database, original)
    copy = submit(database)
    found = view(database, copy)
    assert (found.state, found.stage, found.cached) == (JobState.SUCCEEDED, "done", True)
    assert (found.duration_s, found.chunks_total, found.chunks_done) == (2.0, 1, 1)
    assert not view(database, original).cached
    assert not computes(database, copy)
    assert field(database, copy, "transcript_id") == original
    assert get_manifest(database, "default", copy) == MANIFEST.model_dump_json()


def test_an_equal_job_in_flight_is_waited_for_and_not_computed_again(database: Engine) -> None:
    original = submit(database)
    waiting = [submit(database) for _ in range(2)]
    compute(database, original, until="finish")
    waiting.append(submit(database))
    assert not any(computes(database, job) for job in waiting)
    assert {view(database, job).state for job in waiting} == {JobState.QUEUED}
    store(database, original)
    for job in waiting:
        found = view(database, job)
        assert (found.state, found.cached) == (JobState.SUCCEEDED, True)
        assert found.finished_at is not None


def test_of_equal_jobs_submitted_at_once_one_is_computed(database: Engine) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: submit(database), range(24)))
    computed = [job for job in jobs if computes(database, job)]
    assert len(computed) == 1
    compute(database, computed[0])
    assert {view(database, job).state for job in jobs} == {JobState.SUCCEEDED}


@pytest.mark.parametrize("how", ["fails", "its workers die"])
def test_jobs_that_wait_fail_as_their_original_does(database: Engine, how: str) -> None:
    original = submit(database)
    waiting = submit(database)
    if how == "fails":
        fail(database, original)
    else:
        for _ in range(2):
            expire(database, claim(database, original, "prepare"))
            steps.reap(database)
    reason = view(database, original)
    found = view(database, waiting)
    assert (found.state, found.cached) == (JobState.FAILED, False)
    assert found.error_code
    assert (found.error_code, found.error_detail) == (reason.error_code, reason.error_detail)


def test_when_the_original_is_canceled_the_oldest_waiting_job_takes_its_place(
    database: Engine,
) -> None:
    original, oldest, *rest = [submit(database) for _ in range(4)]
    claim(database, original, "prepare")
    cancel(database, original)
    assert view(database, original).state == JobState.CANCELED
    assert computes(database, oldest)
    assert not any(computes(database, job) for job in rest)
    rest.append(submit(database))
    compute(database, oldest)
    assert not view(database, oldest).cached
    assert all(view(database, job).cached for job in rest)


def test_a_waiting_job_is_canceled_alone(database: Engine) -> None:
    original, canceled, kept = [submit(database) for _ in range(3)]
    cancel(database, canceled)
    compute(database, original)
    assert view(database, canceled).state == JobState.CANCELED
    assert view(database, kept).state == JobState.SUCCEEDED


@pytest.mark.parametrize("end", [fail, cancel])
def test_a_job_that_failed_or_was_canceled_is_never_shared(
    database: Engine, end: Callable[[Engine, UUID], None]
) -> None:
    end(database, submit(database))
    again = submit(database)
    assert view(database, again).state == JobState.QUEUED
    assert computes(database, again)


def test_another_tenants_equal_job_is_neither_shared_nor_waited_for(database: Engine) -> None:
    theirs = submit(database, tenant="them")
    ours = submit(database)
    assert computes(database, ours)
    compute(database, theirs)
    assert view(database, ours).state == JobState.QUEUED
    assert computes(database, submit(database, tenant="others"))
    with pytest.raises(JobNotFound):
        cancel(database, theirs)


def test_another_tenant_does_not_wait_while_an_original_is_chosen(database: Engine) -> None:
    held = submit(database)
    with database.begin() as busy, ThreadPoolExecutor(1) as pool:
        busy.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": held})
        ours = pool.submit(submit, database)
        wait_until(lambda: waiting_sessions(database) == 1)
        submit(database, tenant="them")  # would hang behind either lock
        busy.rollback()
        ours.result(60)


def test_jobs_of_other_fingerprints_and_of_none_are_not_shared(database: Engine) -> None:
    compute(database, submit(database))
    unshared = submit(database, fingerprint=None)
    assert computes(database, unshared)
    assert computes(database, submit(database, fingerprint="e" * 64))
    compute(database, unshared)
    assert computes(database, submit(database, fingerprint=None))


def test_a_copy_serves_on_when_its_original_is_gone(database: Engine) -> None:
    original = submit(database)
    compute(database, original)
    submit(database)
    with database.begin() as connection:
        connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": original})
    assert view(database, submit(database)).cached


# --- two transactions at once, in both orders ---


ORDERS = pytest.mark.parametrize("submitted", ["first", "second"])


@ORDERS
def test_no_job_waits_for_an_original_that_succeeds_meanwhile(
    database: Engine, submitted: str
) -> None:
    original = submit(database)
    compute(database, original, until="finish")
    calls = [lambda: submit(database), lambda: store(database, original)]
    futures = interleave(database, *(calls if submitted == "first" else calls[::-1]))
    copy = next(found for found in (future.result(60) for future in futures) if found)
    assert isinstance(copy, UUID)
    assert view(database, copy).cached
    assert not computes(database, copy)


@ORDERS
def test_no_job_waits_for_an_original_that_fails_meanwhile(
    database: Engine, submitted: str
) -> None:
    original = submit(database)
    failing = claim(database, original, "prepare")

    def end() -> None:
        steps.fail(database, failing, UnreadableMedia("no"))

    calls = [lambda: submit(database), end]
    futures = interleave(database, *(calls if submitted == "first" else calls[::-1]))
    copy = next(found for found in (future.result(60) for future in futures) if found)
    assert isinstance(copy, UUID)
    if submitted == "first":
        assert view(database, copy).state == JobState.FAILED
    else:
        assert computes(database, copy)


@ORDERS
def test_no_job_waits_for_an_original_that_is_canceled_meanwhile(
    database: Engine, submitted: str
) -> None:
    original, oldest = submit(database), submit(database)
    calls = [lambda: submit(database), lambda: cancel(database, original)]
    futures = interleave(database, *(calls if submitted == "first" else calls[::-1]))
    copy = next(found for found in (future.result(60) for future in futures) if found)
    assert isinstance(copy, UUID)
    assert computes(database, oldest)
    assert not computes(database, copy), "two equal jobs are computed"
    compute(database, oldest)
    assert view(database, copy).cached


@ORDERS
def test_a_waiting_job_canceled_while_its_original_succeeds_ends_in_one_state(
    database: Engine, submitted: str
) -> None:
    """``submitted`` names the place of the cancellation."""
    original, waiting = submit(database), submit(database)
    compute(database, original, until="finish")
    calls = [lambda: cancel(database, waiting), lambda: store(database, original)]
    if submitted == "first":
        # Its end does not wait for the copy's cancellation until it shares the transcript.
        for future in interleave(database, *calls):
            future.result(60)
        assert view(database, waiting).state == JobState.CANCELED
        return
    stored, canceled = interleave(database, *calls[::-1])
    stored.result(60)
    assert isinstance(canceled.exception(10), JobEnded | None)
    assert view(database, waiting).state in (JobState.SUCCEEDED, JobState.CANCELED)


@ORDERS
def test_the_copy_to_be_promoted_and_its_original_can_be_canceled_at_once(
    database: Engine, submitted: str
) -> None:
    original, oldest, youngest = [submit(database) for _ in range(3)]
    calls = [lambda: cancel(database, oldest), lambda: cancel(database, original)]
    for future in interleave(database, *(calls if submitted == "first" else calls[::-1])):
        future.result(60)
    assert computes(database, youngest)
    compute(database, youngest)
    assert view(database, youngest).state == JobState.SUCCEEDED


def test_in_any_turmoil_every_job_ends(database: Engine) -> None:
    jobs: list[UUID] = []
    stop = threading.Event()

    def client(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(12):
            jobs.append(submit(database))
            if chance.random() < 0.5:
                try:
                    cancel(database, chance.choice(jobs))
                except JobEnded:
                    continue

    def worker(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set() or active(database):
            for job in active(database):
                try:
                    if not step_ids(database, job, "finish"):
                        if chance.random() < 0.2:
                            fail(database, job)
                        else:
                            compute(database, job)
                except (AssertionError, IndexError, LeaseLost):
                    continue  # canceled, or in another worker's hands

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(worker, seed) for seed in (1, 2)]
        for done in [pool.submit(client, seed) for seed in (3, 4, 5, 6)]:
            done.result(60)
        stop.set()
        for finished in workers:
            finished.result(60)

    states = [view(database, job).state for job in jobs]
    assert len(states) == 48
    assert set(states) <= set(ENDED)


def active(database: Engine) -> list[UUID]:
    with database.begin() as connection:
        return list(
            connection.execute(
                text("SELECT id FROM jobs WHERE state IN ('queued', 'running') ORDER BY random()")
            ).scalars()
        )


def test_a_reference_against_which_nothing_can_be_measured_makes_no_job(database: Engine) -> None:
    with pytest.raises(LonghandError, match="no words"):
        submit(database, reference="?!")
    assert active(database) == []
