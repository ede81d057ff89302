"""The ids of a job's events grow in the order in which they become visible.

An id is drawn when the event is written: a row of ``job_events``, or a done chunk's
``steps.event_id``. Without the lock on the job's row a transition that drew a lower id could commit
after one with a higher id. Whoever had read the higher one already would never see the first.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.jobs import job_store
from harness.jobs.equal import submit
from harness.jobs.job_store import add_job, claim, claim_step, folded, step_ids
from harness.jobs.spoken import planned
from harness.programs.workers import wait_until
from shared.infra.errors import ModelError, StorageUnavailable
from shared.speech.chunks.hypothesis import Hypothesis, hypothesis_to_json
from shared.store import steps
from shared.store.events import Page, Place, read_pages
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.retry import retry_job
from shared.store.steps import ChunkResult, Claim

Transition = Callable[[], object]


def heard(claimed: Claim) -> ChunkResult:
    """A chunk in which nothing was said."""
    return ChunkResult(claimed, hypothesis_to_json(Hypothesis(words=())), {}, audio_s=1.0)


def claiming(database: Engine, job_id: UUID) -> Transition:
    (step_id,) = step_ids(database, job_id, "prepare")
    return lambda: claim_step(database, step_id, owner="test", lease_s=30)


def releasing(database: Engine, job_id: UUID) -> Transition:
    claimed = claim(database, job_id, "prepare")
    return lambda: steps.release(database, claimed)


def trying_again(database: Engine, job_id: UUID) -> Transition:
    claimed = claim(database, job_id, "prepare")
    return lambda: steps.retry(database, claimed, StorageUnavailable("away"), base_s=1)


def failing(database: Engine, job_id: UUID) -> Transition:
    claimed = claim(database, job_id, "prepare")
    return lambda: steps.fail(database, claimed, ModelError("broken"))


def transcribing(database: Engine, job_id: UUID) -> Transition:
    planned(database, job_id, 2)
    claimed = claim(database, job_id, "transcribe")
    return lambda: job_store.transcribe(database, claimed)


def transcribing_a_batch(database: Engine, job_id: UUID) -> Transition:
    planned(database, job_id, 3)
    results = [heard(claim(database, job_id, "transcribe", idx)) for idx in range(3)]
    return lambda: steps.complete_chunks(database, results, max_attempts=3)


def transcribing_the_only_chunk(database: Engine, job_id: UUID) -> Transition:
    planned(database, job_id, 1)
    claimed = claim(database, job_id, "transcribe")
    return lambda: steps.complete_only_chunk(database, heard(claimed), folded())


def finishing(database: Engine, job_id: UUID) -> Transition:
    planned(database, job_id, 0)
    claimed = claim(database, job_id, "finish")
    return lambda: job_store.finish(database, claimed)


def canceling(database: Engine, job_id: UUID) -> Transition:
    return lambda: cancel_job(database, "default", job_id, max_attempts=3)


def taking_up_again(database: Engine, job_id: UUID) -> Transition:
    steps.fail(database, claim(database, job_id, "prepare"), ModelError("broken"))
    return lambda: retry_job(database, "default", job_id, max_attempts=3)


def taking_up_what_was_canceled(database: Engine, job_id: UUID) -> Transition:
    cancel_job(database, "default", job_id, max_attempts=3)
    return lambda: retry_job(database, "default", job_id, max_attempts=3)


@pytest.mark.parametrize(
    "prepared",
    [
        claiming,
        releasing,
        trying_again,
        failing,
        transcribing,
        transcribing_a_batch,
        transcribing_the_only_chunk,
        finishing,
        canceling,
        taking_up_again,
        taking_up_what_was_canceled,
    ],
)
def test_a_transition_draws_no_event_before_it_has_the_lock_of_its_job(
    database: Engine, prepared: Callable[[Engine, UUID], Transition]
) -> None:
    job_id = add_job(database)
    transition = prepared(database, job_id)

    assert_waits_for(database, job_id, transition)


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_what_happens_to_a_copy_is_told_under_the_lock_of_the_copy(
    database: Engine, end: str
) -> None:
    original, copy = submit(database), submit(database)
    planned(database, original, 0)
    claimed = claim(database, original, "finish")
    ends: dict[str, Transition] = {
        "succeeded": lambda: job_store.finish(database, claimed),
        "failed": lambda: steps.fail(database, claimed, ModelError("broken")),
    }

    assert_waits_for(database, copy, ends[end])


def assert_waits_for(database: Engine, job_id: UUID, transition: Transition) -> None:
    """Check that the job has no event more while its row is locked, and has one afterwards."""
    before = drawn(database, job_id)
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as locking:
            locking.execute(
                text("SELECT FROM jobs WHERE id = :id FOR NO KEY UPDATE"), {"id": job_id}
            )
            changing = pool.submit(transition)
            wait_until(lambda: changing.done() or somebody_waits_for_a_lock(database))
            assert not changing.done()
            at = {"id": job_id, "event": "job.test"}
            locking.execute(text("INSERT INTO job_events (job_id, event) VALUES (:id, :event)"), at)
        changing.result(timeout=60)
    events = drawn(database, job_id)[len(before) :]
    assert events[0] == "job.test"
    assert len(events) > 1


def drawn(database: Engine, job_id: UUID) -> list[str]:
    """The job's events, done chunks among them, by their ids."""
    with database.begin() as connection:
        found = connection.execute(
            text("""
                SELECT id, event FROM job_events WHERE job_id = :id
                UNION ALL
                SELECT event_id, 'chunk' FROM steps WHERE job_id = :id AND event_id IS NOT NULL
                ORDER BY id
            """),
            {"id": job_id},
        )
        return [row.event for row in found]


def somebody_waits_for_a_lock(database: Engine) -> bool:
    with database.begin() as connection:
        waits = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(connection.execute(waits).scalar_one())


def test_who_reads_on_from_the_last_event_seen_misses_none(database: Engine) -> None:
    """Four workers complete chunks at once, one by one and in batches of several."""
    job_id = add_job(database)
    n_chunks = 40
    sizes = [1, 4, 2, 3] * 4
    ends = list(accumulate(sizes))
    planned(database, job_id, n_chunks)
    claims = [claim(database, job_id, "transcribe", idx) for idx in range(n_chunks)]
    batches = [claims[end - size : end] for end, size in zip(ends, sizes, strict=True)]

    def complete(batch: list[Claim]) -> None:
        results = [heard(each) for each in batch]
        assert steps.complete_chunks(database, results, max_attempts=3) == []

    told: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        completing = [pool.submit(complete, batch) for batch in batches]
        over = caught_up = False
        while not (over and caught_up):
            over = all(done.done() for done in completing)
            place = Place("default", job_id, told[-1] if told else 0)
            page = read_pages(database, [place])[place]
            assert isinstance(page, Page)
            told += [event.id for event in page.events]
            caught_up = page.complete
        for done in completing:
            done.result()
    # Queued and running, and each chunk once.
    assert len(told) == len(set(told)) == n_chunks + 2
    assert told == sorted(told)
