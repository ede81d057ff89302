"""Nobody waits long behind somebody big: rounds of simulated slots over the real dispatch."""

from uuid import UUID

import pytest
from celery import Celery
from jobstore import CHUNK, add_job, claim, claim_step, prepare, step_ids, transcribe
from psycopg.types.json import Jsonb
from queues import add_worker, take_messages
from shared.queue.dispatch import fill_queues
from sqlalchemy import Engine, text

from shared.infra.settings import Settings
from shared.store.jobs.cancel import cancel_job
from shared.store.queues import CPU_QUEUE, LARGE_BYTES, LARGE_QUEUE, model_queue
from shared.store.steps import Claim

MODEL_QUEUE = model_queue("oracle")
SLOTS = 8


def add_chunks(database: Engine, job_id: UUID, count: int) -> None:
    """Queue the chunks of a job as ``steps.add_chunks`` does, without their 10,000 events."""
    prepare(database, job_id, chunks=1)
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, max_attempts, input)
                SELECT id, 'transcribe', n, :queue, tenant, 0, 3, :input
                FROM jobs, generate_series(1, :count - 1) AS n WHERE id = :job_id
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

    def __init__(self, database: Engine, broker: Celery, settings: Settings) -> None:
        self._database, self._broker, self._settings = database, broker, settings
        add_worker(database, MODEL_QUEUE, SLOTS)
        self._held: list[Claim] = []
        fill_queues(database, broker, settings)

    def next(self) -> list[UUID]:
        """Finish what is held, and claim the next; return whose chunks these are."""
        for held in self._held:
            transcribe(self._database, held)
        taken = take_messages(self._broker, MODEL_QUEUE, SLOTS)
        claims = [
            claim_step(self._database, step_id, owner="test", lease_s=60) for step_id in taken
        ]
        self._held = [claim for claim in claims if claim is not None]
        assert len(self._held) == SLOTS, "a slot idles"
        fill_queues(self._database, self._broker, self._settings)
        return [claim.job_id for claim in self._held]


@pytest.mark.parametrize(
    ("tenant", "chunks"), [("other", 10_000), ("default", 960)], ids=["10,000 chunks", "8 hours"]
)
def test_a_single_chunk_waits_for_what_was_sent_before_and_one_round_at_most(
    database: Engine, broker: Celery, settings: Settings, tenant: str, chunks: int
) -> None:
    """The 8 hours (960 chunks of 30 s) are its own tenant's; the 10,000 chunks another one's."""
    big = add_job(database, tenant=tenant)
    add_chunks(database, big, chunks)
    rounds = Rounds(database, broker, settings)
    for _ in range(3):
        assert set(rounds.next()) == {big}
    small = add_job(database)
    prepare(database, small, chunks=1)
    # The big one's chunks are held, and its next ones are in the queue: these are one round.
    fill_queues(database, broker, settings)
    assert set(rounds.next()) == {big}
    assert small in rounds.next()


def test_the_big_one_gets_every_slot_that_nobody_else_needs(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    big, small = add_job(database, tenant="other"), add_job(database)
    add_chunks(database, big, 100)
    prepare(database, small, chunks=3)
    rounds = Rounds(database, broker, settings)
    assert [rounds.next().count(small) for _ in range(3)] == [3, 0, 0]


# --- large files: preparing one takes a slot for as long as it is decoded ---


@pytest.mark.parametrize(("slots", "at_once"), [(1, 1), (2, 1), (4, 3)])
def test_large_files_are_prepared_on_all_slots_but_one(
    database: Engine, broker: Celery, settings: Settings, slots: int, at_once: int
) -> None:
    add_worker(database, LARGE_QUEUE, slots)
    large = sorted(add_job(database, source_bytes=LARGE_BYTES) for _ in range(5))
    prepares = {step_ids(database, job_id, "prepare")[0]: job_id for job_id in large}

    def sent() -> set[UUID]:
        fill_queues(database, broker, settings)
        return {prepares[step_id] for step_id in take_messages(broker, LARGE_QUEUE)}

    assert sent() == {*large[:at_once]}
    assert sent() == set()
    for job_id in large[:at_once]:
        claim(database, job_id, "prepare")
    assert sent() == set()
    cancel_job(database, "default", large[0], max_attempts=2)
    assert sent() == {large[at_once]}


def test_small_files_do_not_queue_up_behind_the_large_ones_of_their_tenant(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    for _ in range(20):
        add_job(database, source_bytes=LARGE_BYTES)
    mine = add_job(database, source_bytes=LARGE_BYTES - 1)
    for _ in range(20):
        add_job(database, tenant="other")
    fill_queues(database, broker, settings)
    assert step_ids(database, mine, "prepare")[0] in take_messages(broker, CPU_QUEUE)
