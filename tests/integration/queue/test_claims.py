"""Claims on real Postgres: whose turn it is, what is left alone, and many workers at once."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, text

from harness.database.query_plans import buffers, explain
from harness.jobs.job_store import CHUNK, add_job, claim, column, new_job, prepare, step_ids
from harness.jobs.queues import MODEL_QUEUE
from shared.infra.errors import StorageUnavailable
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.read import get_job
from shared.store.queues import CPU_QUEUE, DELIVER_QUEUE
from shared.store.states import StepKind
from shared.store.steps import Claim, NewStep, Taken
from shared.store.steps.fair_order import _claim_up_to


def take(database: Engine, queue: str = MODEL_QUEUE, limit: int = 1) -> Taken:
    return steps.claim_next(database, queue, owner="test", lease_s=30, limit=limit)


def jobs_in_turn(database: Engine, n: int, queue: str = MODEL_QUEUE) -> list[UUID]:
    """Whose steps are claimed, by one claim after the other; none of them ends."""
    return [claimed.job_id for _ in range(n) for claimed in take(database, queue).claims]


def add_chunks(database: Engine, count: int, tenant: str = "default", priority: int = 0) -> UUID:
    """A job with so many chunks to be transcribed."""
    job = new_job(tenant=tenant, priority=priority)
    create_job(database, job, max_attempts=3)
    prepare(database, job.id, chunks=count)
    return job.id


# --- what a claim is ---


def test_a_claim_raises_attempt_and_epoch_and_has_a_lease_of_its_owner(database: Engine) -> None:
    job_id = add_job(database)

    (claimed,) = steps.claim_next(database, CPU_QUEUE, owner="me", lease_s=30).claims

    assert (claimed.job_id, claimed.kind, claimed.owner) == (job_id, StepKind.PREPARE, "me")
    assert (claimed.attempt, claimed.epoch) == (1, 1)
    (step,) = step_ids(database, job_id, "prepare")
    assert (claimed.step_id, column(database, step, "state")) == (step, "running")
    lasts = "extract(epoch FROM lease_until - clock_timestamp())::float8 BETWEEN 20 AND 30"
    assert column(database, step, lasts)
    assert get_job(database, "default", job_id).state == "running"


def test_a_job_runs_from_its_first_claim_on(database: Engine) -> None:
    job_id = add_chunks(database, 2)
    started = get_job(database, "default", job_id).started_at
    take(database)
    take(database)
    assert get_job(database, "default", job_id).started_at == started
    with database.begin() as connection:
        events = connection.execute(
            text("SELECT event FROM job_events WHERE job_id = :id ORDER BY id"), {"id": job_id}
        ).scalars()
        assert list(events) == ["job.queued", "job.running"]


def test_a_claim_takes_as_many_as_it_may_and_no_more(database: Engine) -> None:
    add_chunks(database, 5)
    assert [len(take(database, limit=3).claims) for _ in range(3)] == [3, 2, 0]


def test_more_is_said_where_another_step_of_the_queue_is_due(database: Engine) -> None:
    add_chunks(database, 4)
    assert [take(database, limit=2).more for _ in range(3)] == [True, False, False]


def test_what_is_not_due_or_on_hold_is_neither_claimed_nor_more(database: Engine) -> None:
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")
    chunks = [NewStep(idx, CHUNK) for idx in range(3)]
    steps.add_chunks(database, preparing, chunks[:1], max_attempts=3)
    steps.add_chunks(database, preparing, chunks[1:], max_attempts=3, hold=True)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE steps SET run_at = now() + interval '1 h' WHERE idx = 1"),
        )
    taken = take(database, limit=3)
    assert ([each.idx for each in taken.claims], taken.more) == ([0], False)
    assert take(database) == Taken([], more=False)


def test_a_queue_gives_its_own_steps_alone(database: Engine) -> None:
    add_chunks(database, 1)
    waiting = add_job(database)
    for queue in ("model.another", "cpu.large", DELIVER_QUEUE):
        assert take(database, queue).claims == []
    assert jobs_in_turn(database, 2, CPU_QUEUE) == [waiting]


def test_steps_of_a_job_that_has_ended_are_void_and_not_claimed(database: Engine) -> None:
    job_id = add_chunks(database, 2)
    take(database)
    cancel_job(database, "default", job_id, max_attempts=3)
    states = {column(database, step, "state") for step in step_ids(database, job_id, "transcribe")}
    assert states == {"void"}
    assert take(database) == Taken([], more=False)


# --- whose turn it is ---


@pytest.mark.parametrize("limit", [1, 3, 6])
def test_tenants_alternate_however_much_one_has_queued(database: Engine, limit: int) -> None:
    big, small = add_chunks(database, 50, "big"), add_chunks(database, 3, "small")
    claimed = [each for _ in range(6 // limit) for each in take(database, limit=limit).claims]
    assert Counter(each.job_id for each in claimed) == {big: 3, small: 3}


def test_who_comes_back_after_a_pause_has_saved_up_no_turns(database: Engine) -> None:
    often = add_chunks(database, 60, "often")
    jobs_in_turn(database, 30)
    seldom = add_chunks(database, 20, "seldom")
    assert Counter(jobs_in_turn(database, 10)) == {often: 5, seldom: 5}


def test_who_asks_for_many_steps_one_by_one_gets_no_more_than_who_asked_at_once(
    database: Engine,
) -> None:
    at_once = add_chunks(database, 10, "at once")
    for _ in range(10):
        add_chunks(database, 1, "one by one")
    assert jobs_in_turn(database, 10).count(at_once) == 5


@pytest.mark.parametrize("chunks", [2, 500])
def test_a_short_job_does_not_wait_behind_a_long_one_of_the_same_tenant(
    database: Engine, chunks: int
) -> None:
    long = add_chunks(database, chunks)
    jobs_in_turn(database, 1)
    short = add_chunks(database, 1)
    assert short in jobs_in_turn(database, 2)
    assert long != short


def test_jobs_of_a_tenant_take_turns(database: Engine) -> None:
    jobs = [add_chunks(database, 9) for _ in range(3)]
    assert Counter(jobs_in_turn(database, 9)) == dict.fromkeys(jobs, 3)


def test_the_chunks_of_a_job_are_claimed_in_their_order(database: Engine) -> None:
    add_chunks(database, 5)
    claims = [each for _ in range(5) for each in take(database).claims]
    assert [each.idx for each in claims] == [0, 1, 2, 3, 4]


def test_what_is_claimed_at_once_comes_by_priority_whoever_has_submitted_it(
    database: Engine,
) -> None:
    priorities = {
        add_chunks(database, 2, f"tenant {number}", priority): priority
        for number, priority in enumerate([3, -2, 5, 0, -4, 1])
    }
    claims = take(database, limit=12).claims
    assert [priorities[each.job_id] for each in claims] == [5, 5, 3, 3, 1, 1, 0, 0, -2, -2, -4, -4]
    assert [each.idx for each in claims] == 6 * [0, 1]


def test_the_oldest_of_equal_jobs_goes_first(database: Engine) -> None:
    jobs = [add_job(database) for _ in range(5)]
    assert jobs_in_turn(database, 5, CPU_QUEUE) == jobs


def test_a_tenants_urgent_job_goes_before_its_others_and_takes_no_turn_of_anybody_else(
    database: Engine,
) -> None:
    plain, other = add_chunks(database, 6, "a"), add_chunks(database, 12, "b")
    urgent = add_chunks(database, 3, "a", priority=1)
    in_turn = jobs_in_turn(database, 12)
    assert Counter(in_turn) == {urgent: 3, plain: 3, other: 6}
    assert [job for job in in_turn if job != other] == 3 * [urgent] + 3 * [plain]
    halves = in_turn[:6], in_turn[6:]
    assert [half.count(other) for half in halves] == [3, 3]


LOSSES: dict[str, Callable[[Engine, Claim], object]] = {
    "reaped": lambda engine, _: steps.reap(engine),
    "released": steps.release,
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_that_lost_its_worker_goes_before_what_its_tenant_has_not_begun(
    database: Engine, loss: str
) -> None:
    *_, youngest = [add_job(database) for _ in range(20)]
    create_job(database, new_job(priority=9), max_attempts=3)
    claimed = claim(database, youngest, "prepare", lease_s=0)
    LOSSES[loss](database, claimed)
    assert [each.step_id for each in take(database, CPU_QUEUE).claims] == [claimed.step_id]


def test_what_lost_its_worker_has_had_its_turn_and_waits_for_no_other_tenant(
    database: Engine,
) -> None:
    unlucky, other = add_chunks(database, 9, "a"), add_chunks(database, 9, "b")
    lost = {claim(database, unlucky, "transcribe", idx, lease_s=0).step_id for idx in range(3)}
    steps.reap(database)
    claims = [each for _ in range(4) for each in take(database).claims]
    assert {each.step_id for each in claims} > lost
    assert Counter(jobs_in_turn(database, 8)) == {other: 5, unlucky: 3}


def test_what_is_tried_again_after_an_error_takes_its_turn(database: Engine) -> None:
    *others, youngest = [add_job(database) for _ in range(20)]
    steps.release(database, claim(database, youngest, "prepare"))
    claimed = claim(database, youngest, "prepare")
    steps.retry(database, claimed, StorageUnavailable("away"), base_s=0)
    assert youngest not in jobs_in_turn(database, 10, CPU_QUEUE)
    assert youngest in jobs_in_turn(database, 10, CPU_QUEUE)
    assert len(others) == 19


# --- locks ---


def test_a_locked_step_is_not_waited_for_and_goes_the_next_time(database: Engine) -> None:
    locked, free = [step_ids(database, add_job(database), "prepare")[0] for _ in range(2)]
    with database.begin() as busy:
        busy.execute(text("SELECT FROM steps WHERE id = :id FOR UPDATE"), {"id": locked})
        assert [each.step_id for each in take(database, CPU_QUEUE).claims] == [free]
        taken = take(database, CPU_QUEUE)
        assert (taken.claims, taken.more) == ([], True)
    assert [each.step_id for each in take(database, CPU_QUEUE).claims] == [locked]


def test_a_locked_step_holds_up_no_other_tenant(database: Engine) -> None:
    locked, free = [
        step_ids(database, add_job(database, tenant=tenant), "prepare")[0] for tenant in "ab"
    ]
    with database.begin() as busy:
        busy.execute(text("SELECT FROM steps WHERE id = :id FOR UPDATE"), {"id": locked})
        assert [each.step_id for each in take(database, CPU_QUEUE).claims] == [free]


def test_a_claim_of_a_job_that_runs_waits_for_no_other_transaction_of_it(
    database: Engine,
) -> None:
    job_id = add_chunks(database, 1)
    with database.begin() as busy:
        busy.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
        assert jobs_in_turn(database, 1) == [job_id]


# --- many at once ---


@pytest.mark.parametrize("limit", [1, 4])
def test_claims_at_once_take_every_step_once(database: Engine, limit: int) -> None:
    workers = 8
    jobs = [add_chunks(database, 15, tenant) for tenant in ("a", "a", "b", "c")]
    start = threading.Barrier(workers)

    def work(_: int) -> list[int]:
        found: list[int] = []
        start.wait()
        while (taken := take(database, limit=limit)).claims or taken.more:
            found += [each.step_id for each in taken.claims]
        return found

    with ThreadPoolExecutor(workers) as pool:
        claimed = [step for found in pool.map(work, range(workers)) for step in found]

    everything = [step for job_id in jobs for step in step_ids(database, job_id, "transcribe")]
    assert sorted(claimed) == sorted(everything)
    assert {column(database, step, "epoch") for step in everything} == {1}


@pytest.mark.parametrize("tenants", ["aa", "ab"])
def test_of_two_steps_neither_is_missed_by_two_claims_at_once(
    database: Engine, tenants: str
) -> None:
    """Whoever finds nothing was told that there is more, unless both were taken."""
    for _ in range(20):
        both = {step_ids(database, add_job(database, tenant=t), "prepare")[0] for t in tenants}
        start = threading.Barrier(2)

        def work(_: int, start: threading.Barrier = start) -> list[int]:
            start.wait()
            while not (taken := take(database, CPU_QUEUE)).claims and taken.more:
                pass
            return [each.step_id for each in taken.claims]

        with ThreadPoolExecutor(2) as pool:
            found = [step for steps in pool.map(work, range(2)) for step in steps]
        assert sorted(found) == sorted(both)


def test_steps_added_while_others_claim_are_all_claimed_in_the_end(database: Engine) -> None:
    """Turns are drawn by concurrent transactions, too, and may be equal."""
    tenants, claimed = [f"t{number}" for number in range(4)], []
    done = threading.Event()

    def add(tenant: str) -> list[int]:
        return [step_ids(database, add_job(database, tenant=tenant), "prepare")[0] for _ in "12345"]

    def work() -> None:
        while True:
            is_last = done.is_set()
            taken = take(database, CPU_QUEUE, limit=2)
            claimed.extend(each.step_id for each in taken.claims)
            if is_last and not taken.claims and not taken.more:
                return

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(work) for _ in range(3)]
        added = [step for found in pool.map(add, tenants) for step in found]
        done.set()
        for worker in workers:
            worker.result(60)
    assert sorted(claimed) == sorted(added)


# --- what it costs ---


def add_waiting(database: Engine, *, tenants: int, each: int) -> None:
    """Queue so many chunks of so many tenants, with the turns that they would get one by one."""
    for number in range(tenants):
        create_job(database, new_job(tenant=f"t{number}"), max_attempts=3)
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, job_turn, tenant_turn,
                                   max_attempts, input)
                SELECT id, 'transcribe', n, :queue, tenant, 0, n, n, 3, :input
                FROM jobs, generate_series(0, :each - 1) AS n
                WHERE id NOT IN (SELECT job_id FROM steps WHERE kind = 'transcribe')
            """),
            {"queue": MODEL_QUEUE, "each": each, "input": Jsonb(CHUNK)},
        )


def pages_read(database: Engine, *, analyzed: bool = True) -> int:
    """What a claim of one step reads."""
    parameters = {
        "queue": MODEL_QUEUE,
        "owner": "test",
        "lease_s": 30,
        "passed_by": [],
    }
    plan = explain(database, str(_claim_up_to(1)), parameters, analyzed=analyzed)
    assert plan["Actual Rows"] == 1
    return buffers(plan)


def test_a_claim_reads_hardly_more_where_20_000_steps_of_200_tenants_wait(
    database: Engine,
) -> None:
    add_waiting(database, tenants=2, each=5)
    few = pages_read(database)
    add_waiting(database, tenants=200, each=100)
    assert pages_read(database) < few + 50


def test_a_claim_reads_hardly_more_after_thousands_of_steps_have_ended(database: Engine) -> None:
    add_waiting(database, tenants=2, each=5)
    few = pages_read(database)
    add_waiting(database, tenants=20, each=250)
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET state = 'void' WHERE tenant <> 't1'"))
        connection.execute(text("UPDATE steps SET state = 'done' WHERE idx > 3"))
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM steps"))
    assert pages_read(database) < few + 50


def test_a_claim_reads_hardly_more_when_steps_are_due_that_the_statistics_know_as_not_due(
    database: Engine,
) -> None:
    add_waiting(database, tenants=2, each=5)
    few = pages_read(database)
    add_waiting(database, tenants=20, each=250)
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET run_at = 'infinity'"))
        connection.execute(text("ANALYZE steps"))
        connection.execute(text("UPDATE steps SET run_at = now()"))
    assert pages_read(database, analyzed=False) < few + 50
