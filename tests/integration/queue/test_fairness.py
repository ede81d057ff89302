"""Nobody waits long behind somebody big: rounds of simulated slots over the real claims."""

from collections import Counter
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, text

from harness.jobs.job_store import CHUNK, add_job, prepare, transcribe
from harness.jobs.queues import MODEL_QUEUE
from harness.jobs.registry import enter_worker
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.queues import CPU_QUEUE, LARGE_BYTES, LARGE_QUEUE
from shared.store.steps import Claim

SLOTS = 8


def add_chunks(database: Engine, job_id: UUID, count: int) -> None:
    """Queue the chunks of a job as ``steps.add_chunks`` does, in one statement."""
    prepare(database, job_id, chunks=1)
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, job_turn, tenant_turn,
                                   max_attempts, input)
                SELECT jobs.id, 'transcribe', n, :queue, jobs.tenant, 0,
                       first.job_turn + n, first.tenant_turn + n, 3, :input
                FROM jobs JOIN steps AS first ON first.job_id = jobs.id AND kind = 'transcribe',
                     generate_series(1, :count - 1) AS n
                WHERE jobs.id = :job_id
            """),
            {"job_id": job_id, "queue": MODEL_QUEUE, "input": Jsonb(CHUNK), "count": count},
        )
        connection.execute(
            text("UPDATE jobs SET chunks_total = :count WHERE id = :id"),
            {"id": job_id, "count": count},
        )
        connection.execute(text("ANALYZE jobs, steps"))


class Rounds:
    """Workers that take ``SLOTS`` chunks at once, and finish them all before they take more."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        self._held: list[Claim] = []

    def next(self) -> list[UUID]:
        """Finish what is held, and claim the next; return whose chunks these are."""
        for held in self._held:
            transcribe(self._database, held)
        self._held = [
            claim
            for _ in range(SLOTS)
            for claim in steps.claim_next(
                self._database, MODEL_QUEUE, owner="test", lease_s=60
            ).claims
        ]
        assert len(self._held) == SLOTS, "a slot idles"
        return [claim.job_id for claim in self._held]


@pytest.mark.parametrize(
    ("tenant", "chunks"), [("other", 10_000), ("default", 960)], ids=["10,000 chunks", "8 hours"]
)
def test_a_single_chunk_waits_for_what_is_under_way_and_for_nothing_else(
    database: Engine, tenant: str, chunks: int
) -> None:
    """The 8 hours (960 chunks of 30 s) are its own tenant's; the 10,000 chunks another one's."""
    big = add_job(database, tenant=tenant)
    add_chunks(database, big, chunks)
    rounds = Rounds(database)
    for _ in range(3):
        assert set(rounds.next()) == {big}
    small = add_job(database)
    prepare(database, small, chunks=1)
    assert small in rounds.next()


def test_the_big_one_gets_every_slot_that_nobody_else_needs(database: Engine) -> None:
    big, small = add_job(database, tenant="other"), add_job(database)
    add_chunks(database, big, 100)
    prepare(database, small, chunks=3)
    rounds = Rounds(database)
    assert [rounds.next().count(small) for _ in range(3)] == [3, 0, 0]


def test_a_hundred_small_tenants_wait_for_one_another_and_hardly_for_a_big_one(
    database: Engine,
) -> None:
    big = add_job(database, tenant="big")
    add_chunks(database, big, 1000)
    rounds = Rounds(database)
    rounds.next()
    small = {add_job(database, tenant=f"small {number}") for number in range(40)}
    for job_id in small:
        prepare(database, job_id, chunks=1)
    served = [job_id for _ in range(6) for job_id in rounds.next()]
    assert small <= {*served}
    assert Counter(served)[big] == 6 * SLOTS - len(small)


# --- large files: preparing one takes a slot for as long as it is decoded ---


def take(database: Engine, queue: str, limit: int = 1) -> steps.Taken:
    return steps.claim_next(database, queue, owner="test", lease_s=60, limit=limit)


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (2, 1), (4, 3)])
@pytest.mark.parametrize("limit", [1, 9])
def test_large_files_are_prepared_on_all_slots_but_one(
    database: Engine, slots: int, at_once: int, limit: int
) -> None:
    enter_worker(database, "cpu", slots=slots)
    large = [add_job(database, source_bytes=LARGE_BYTES) for _ in range(5)]

    def claimed() -> list[UUID]:
        return [each.job_id for _ in range(9) for each in take(database, LARGE_QUEUE, limit).claims]

    assert claimed() == large[:at_once]
    assert claimed() == []
    cancel_job(database, "default", large[0], max_attempts=2)
    assert claimed() == [large[at_once]]


def test_who_prepares_a_large_file_looks_for_the_next_one_when_it_is_done(
    database: Engine,
) -> None:
    """Also where that came later, when there was no room: its wake-up was in vain."""
    enter_worker(database, "cpu", slots=2)
    add_job(database, source_bytes=LARGE_BYTES)
    assert take(database, LARGE_QUEUE).more
    add_job(database, source_bytes=LARGE_BYTES)
    assert take(database, LARGE_QUEUE) == steps.Taken([], more=False)


def test_small_files_do_not_queue_up_behind_the_large_ones_of_their_tenant(
    database: Engine,
) -> None:
    for _ in range(20):
        add_job(database, source_bytes=LARGE_BYTES)
    mine = add_job(database, source_bytes=LARGE_BYTES - 1)
    for _ in range(20):
        add_job(database, tenant="other")
    claimed = [each.job_id for _ in range(2) for each in take(database, CPU_QUEUE).claims]
    assert mine in claimed
