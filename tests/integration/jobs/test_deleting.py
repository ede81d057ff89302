"""Deleted jobs on real Postgres: nothing of theirs is left, and nobody else lacks anything."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.interleaving import interleave
from harness.jobs.equal import compute, submit
from harness.jobs.job_store import (
    add_job,
    claim,
    claim_step,
    expire,
    finish,
    prepare,
    step_ids,
    transcribe,
)
from harness.jobs.removals import pending
from harness.jobs.transcripts import get_transcript
from shared.infra.errors import JobNotFound, LeaseLost, StorageUnavailable, UnreadableMedia
from shared.store import steps
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import JobView, get_job
from shared.store.objects.keys import job_prefix
from shared.store.states import JobState
from shared.store.steps import NewStep
from shared.store.tables import metadata


def delete(database: Engine, job_id: UUID, tenant: str = "default") -> None:
    delete_job(database, tenant, job_id, max_attempts=2)


def view(database: Engine, job_id: UUID) -> JobView:
    return get_job(database, "default", job_id)


KEPT = {"tenants", "usage", "usage_entries"}


def filled_tables(database: Engine) -> set[str]:
    with database.begin() as connection:
        return {
            table.name
            for table in metadata.sorted_tables
            if table.name not in KEPT
            and connection.execute(text(f"SELECT EXISTS (SELECT FROM {table.name})")).scalar_one()
        }


def test_nothing_of_a_deleted_job_is_left_but_the_note_that_its_objects_go(
    database: Engine,
) -> None:
    job_id = add_job(database)
    compute(database, job_id)
    assert filled_tables(database) >= {"jobs", "steps", "job_events", "transcript_segments"}
    delete(database, job_id)
    assert filled_tables(database) == {"removals"}
    assert job_prefix(job_id) in pending(database)


def test_a_deleted_job_is_as_unknown_as_one_that_never_was(database: Engine) -> None:
    job_id = add_job(database)
    with pytest.raises(JobNotFound) as foreign:
        delete(database, job_id, tenant="them")
    delete(database, job_id)
    with pytest.raises(JobNotFound) as unknown:
        delete(database, job_id)
    assert str(foreign.value) == str(unknown.value)


def test_of_deletions_at_once_one_finds_the_job(database: Engine) -> None:
    job_id = submit(database)

    def attempt(_: int) -> bool:
        try:
            delete(database, job_id)
        except JobNotFound:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(12))) == 1


def test_a_worker_finds_its_claim_void_when_the_job_is_gone(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    held = claim(database, job_id, "transcribe")
    delete(database, job_id)
    assert steps.renew(database, [held], lease_s=30) == set()
    assert claim_step(database, held.step_id, owner="other", lease_s=30) is None
    writes: Sequence[Callable[[], None]] = (
        lambda: transcribe(database, held),
        lambda: steps.release(database, held),
        lambda: steps.fail(database, held, UnreadableMedia("no")),
        lambda: steps.retry(database, held, StorageUnavailable("no"), base_s=0),
        lambda: steps.add_chunks(database, held, [NewStep(1, {})], max_attempts=2),
        lambda: finish(database, held),
    )
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert filled_tables(database) == {"removals"}


def test_an_expired_lease_of_a_deleted_job_does_not_disturb_the_reaper(database: Engine) -> None:
    gone, other = add_job(database), add_job(database)
    for job_id in (gone, other):
        expire(database, claim(database, job_id, "prepare"))
    delete(database, gone)
    assert steps.reap(database) == 1


# --- equal jobs ---


def test_a_shared_transcript_goes_with_the_last_job_that_has_it(database: Engine) -> None:
    original, waiting = submit(database), submit(database)
    compute(database, original)
    cached = submit(database)
    delete(database, original)
    assert get_transcript(database, "default", waiting).text == "hello there"
    delete(database, waiting)
    assert get_transcript(database, "default", cached).text == "hello there"
    assert view(database, submit(database)).cached, "a copy serves on"
    for job_id in jobs(database):
        delete(database, job_id)
    assert filled_tables(database) == {"removals"}


def test_when_the_last_two_owners_go_at_once_the_transcript_does_too(database: Engine) -> None:
    original = submit(database)
    compute(database, original)
    copy = submit(database)
    pair = [lambda: delete(database, original), lambda: delete(database, copy)]
    for future in interleave(database, *pair):
        future.result(20)
    assert filled_tables(database) == {"removals"}


@pytest.mark.parametrize("begun", [False, True])
def test_when_the_original_is_deleted_the_oldest_waiting_job_takes_its_place(
    database: Engine, begun: bool
) -> None:
    original, oldest, youngest = [submit(database) for _ in range(3)]
    if begun:
        claim(database, original, "prepare")
    delete(database, original)
    assert step_ids(database, oldest, "prepare")
    assert not step_ids(database, youngest, "prepare")
    compute(database, oldest)
    assert view(database, youngest).cached


def test_a_waiting_job_is_deleted_alone(database: Engine) -> None:
    original, gone, kept = [submit(database) for _ in range(3)]
    delete(database, gone)
    compute(database, original)
    assert {view(database, job_id).state for job_id in (original, kept)} == {JobState.SUCCEEDED}
    assert len(jobs(database)) == 2


ORDERS = pytest.mark.parametrize("deleted", ["first", "second"])


@ORDERS
def test_a_job_deleted_while_it_succeeds_leaves_no_transcript_and_no_copy_without_one(
    database: Engine, deleted: str
) -> None:
    original, copy = submit(database), submit(database)
    compute(database, original, until="finish")
    finishing = claim(database, original, "finish")
    calls = [lambda: delete(database, original), lambda: finish(database, finishing)]
    futures = interleave(database, *(calls if deleted == "first" else calls[::-1]))
    futures[0].result(20)
    if deleted == "first":
        assert isinstance(futures[1].exception(20), LeaseLost)
        compute(database, copy)
    else:
        futures[1].result(20)
    assert [view(database, job_id).state for job_id in jobs(database)] == [JobState.SUCCEEDED]
    delete(database, copy)
    assert filled_tables(database) == {"removals"}


@ORDERS
def test_a_job_submitted_while_its_original_is_deleted_is_computed_once(
    database: Engine, deleted: str
) -> None:
    original = submit(database)
    calls: list[Callable[[], object]] = [
        lambda: delete(database, original),
        lambda: submit(database),
    ]
    for future in interleave(database, *(calls if deleted == "first" else calls[::-1])):
        future.result(20)
    (job_id,) = jobs(database)
    compute(database, job_id)
    assert view(database, job_id).state == JobState.SUCCEEDED


def jobs(database: Engine) -> list[UUID]:
    with database.begin() as connection:
        return list(connection.execute(text("SELECT id FROM jobs ORDER BY id")).scalars())
