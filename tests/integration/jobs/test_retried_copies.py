"""A retried copy is computed at most once, or gets what an equal job has."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.interleaving import interleave, waiting_sessions
from harness.jobs.ended import HOW, cancel, computes, end, lose_audio, retry, view
from harness.jobs.equal import compute, store, submit
from harness.jobs.job_store import claim, prepare, transcribe
from harness.programs.workers import wait_until
from shared.infra.errors import (
    AudioGone,
)
from shared.store.jobs.delete import delete_job
from shared.store.jobs.end import end_jobs
from shared.store.jobs.equal import lock_equal_jobs
from shared.store.states import JobState
from shared.store.successors import insert_prepare

# --- equal jobs, which ended without steps of their own ---


def ended_copies(database: Engine, n_copies: int, how: str) -> tuple[UUID, list[UUID]]:
    original = submit(database)
    copies = [submit(database) for _ in range(n_copies)]
    if how == "canceled":
        for copy in copies:
            cancel(database, copy)
    end(database, original, how)
    assert {view(database, job_id).state for job_id in copies} == {how}
    return original, copies


@HOW
def test_an_ended_copy_without_an_equal_job_is_computed_and_the_next_waits_for_it(
    database: Engine, how: str
) -> None:
    original, (first, second) = ended_copies(database, 2, how)
    retry(database, first)
    retry(database, second)
    assert computes(database, first)
    assert not computes(database, second)
    compute(database, first)
    assert (view(database, first).cached, view(database, second).cached) == (False, True)
    assert view(database, original).state == how


@HOW
def test_of_copies_retried_at_once_one_is_computed(database: Engine, how: str) -> None:
    _, copies = ended_copies(database, 8, how)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job_id: retry(database, job_id), copies))
    computed = [job_id for job_id in copies if computes(database, job_id)]
    assert len(computed) == 1
    compute(database, computed[0])
    assert {view(database, job_id).state for job_id in copies} == {JobState.SUCCEEDED}


@HOW
def test_an_ended_copy_waits_for_its_original_that_was_retried(database: Engine, how: str) -> None:
    original, (copy,) = ended_copies(database, 1, how)
    retry(database, original)
    retry(database, copy)
    assert not computes(database, copy)
    compute(database, original)
    assert (view(database, copy).state, view(database, copy).cached) == ("succeeded", True)
    assert view(database, copy).run == 2


@HOW
def test_an_ended_copy_gets_the_transcript_that_there_is_by_now_even_without_its_audio(
    database: Engine, how: str
) -> None:
    _, (copy, other) = ended_copies(database, 2, how)
    lose_audio(database, how)
    with pytest.raises(AudioGone):
        retry(database, copy)
    compute(database, submit(database))
    retry(database, copy)
    assert (view(database, copy).state, view(database, copy).cached) == ("succeeded", True)
    assert view(database, other).state == how


@HOW
def test_a_copy_without_audio_does_not_wait_for_a_job_in_whose_place_it_could_not_be_done(
    database: Engine, how: str
) -> None:
    _, (copy,) = ended_copies(database, 1, how)
    lose_audio(database, how)
    submit(database)
    with pytest.raises(AudioGone):
        retry(database, copy)
    assert view(database, copy).state == how


@HOW
def test_an_ended_copy_whose_original_was_deleted_is_computed(database: Engine, how: str) -> None:
    original, (copy,) = ended_copies(database, 1, how)
    delete_job(database, "default", original, max_attempts=2)
    retry(database, copy)
    assert computes(database, copy)
    compute(database, copy)
    assert view(database, copy).state == JobState.SUCCEEDED


@HOW
@pytest.mark.parametrize("submitted", ["first", "second"])
def test_a_retried_copy_never_waits_for_an_original_that_succeeds_meanwhile(
    database: Engine, submitted: str, how: str
) -> None:
    original, (copy,) = ended_copies(database, 1, how)
    retry(database, original)
    compute(database, original, until="finish")
    calls = [lambda: retry(database, copy), lambda: store(database, original)]
    for future in interleave(database, *(calls if submitted == "first" else calls[::-1])):
        future.result(60)
    assert (view(database, copy).state, view(database, copy).cached) == ("succeeded", True)


def test_a_canceled_original_goes_on_beside_the_copy_that_took_its_place(database: Engine) -> None:
    original, promoted, waiting = [submit(database) for _ in range(3)]
    prepare(database, original, chunks=2)
    transcribe(database, claim(database, original, "transcribe", 0))
    cancel(database, original)

    retry(database, original)

    assert view(database, original).chunks_done == 1
    compute(database, promoted)
    assert (view(database, waiting).state, view(database, waiting).cached) == ("succeeded", True)
    assert view(database, original).state == JobState.QUEUED
    transcribe(database, claim(database, original, "transcribe", 1))
    store(database, original)
    assert (view(database, original).state, view(database, original).cached) == ("succeeded", False)


def test_a_retry_takes_up_the_steps_that_its_job_got_while_it_waited_for_the_lock(
    database: Engine,
) -> None:
    """Another retry began them, and the job was canceled again."""
    _, (copy,) = ended_copies(database, 1, "canceled")
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as first:
            lock_equal_jobs(first, "default", "f" * 64)
            late = pool.submit(retry, database, copy)
            wait_until(lambda: waiting_sessions(database) == 1)
            first.execute(text("UPDATE jobs SET run = run + 1 WHERE id = :id"), {"id": copy})
            insert_prepare(first, copy, 1, 2)
            end_jobs(first, [copy])
        late.result(60)
    assert claim(database, copy, "prepare").attempt == 1
