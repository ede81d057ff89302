"""Calls in the store: they end when nobody wants them, and equal ones are one job."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.jobs.equal import compute
from harness.jobs.job_store import ORACLE, add_job, claim, new_job, step_ids
from harness.jobs.webhook_store import TENANT
from shared.infra.errors import UnreadableMedia
from shared.infra.settings import Settings
from shared.speech.transcript.edits import Edits
from shared.store import steps
from shared.store.jobs.calls import cancel_unwanted, keep_call, renew_calls
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import Created, create_job
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import get_job
from shared.store.jobs.retry import retry_job
from shared.store.queues import CPU_QUEUE
from worker.process.runtime import make_runtime
from worker.upkeep.sweep import sweep

PAST_S = -1.0
"""Wanted until a second ago."""
SAME = "f" * 64


def call(
    database: Engine, *, wanted_s: float | None = 60.0, same: bool = True, **fields: object
) -> Created:
    fingerprint = SAME if same else None
    job = new_job(wanted_s=wanted_s, fingerprint=fingerprint, **fields)
    return create_job(database, job, max_attempts=3)


def state(database: Engine, job_id: UUID) -> str:
    return str(get_job(database, TENANT, job_id).state)


def calls(database: Engine) -> set[UUID]:
    with database.begin() as connection:
        return set(connection.execute(text("SELECT job_id FROM calls")).scalars())


def jobs(database: Engine) -> int:
    with database.begin() as connection:
        return int(connection.execute(text("SELECT count(*) FROM jobs")).scalar_one())


def cancel(database: Engine) -> int:
    return cancel_unwanted(database, max_attempts=3)


def test_the_sweep_cancels_a_call_that_nobody_wants_and_says_why(
    settings: Settings, database: Engine
) -> None:
    unwanted = call(database, wanted_s=PAST_S, same=False).job_id
    wanted = call(database, same=False).job_id
    ordinary = add_job(database)
    runtime = make_runtime(settings, "beat")
    try:
        sweep(runtime)
        sweep(runtime)
    finally:
        runtime.close()
    assert state(database, unwanted) == "canceled"
    assert [state(database, each) for each in (wanted, ordinary)] == ["queued", "queued"]
    assert calls(database) == {wanted}
    with database.begin() as connection:
        told = connection.execute(
            text("SELECT detail FROM job_events WHERE event = 'job.canceled' AND job_id = :id"),
            {"id": unwanted},
        )
        assert told.scalars().all() == ["its client left"]


def test_a_renewed_call_goes_on_and_a_renewal_shortens_nothing(database: Engine) -> None:
    job_id = call(database, wanted_s=PAST_S).job_id
    renew_calls(database, [job_id], for_s=60)
    renew_calls(database, [job_id], for_s=PAST_S)
    assert cancel(database) == 0
    assert state(database, job_id) == "queued"


def test_a_call_that_is_kept_is_an_ordinary_job(database: Engine) -> None:
    job_id = call(database, wanted_s=PAST_S).job_id
    keep_call(database, "default", job_id)
    renew_calls(database, [job_id], for_s=PAST_S)
    assert cancel(database) == 0
    assert state(database, job_id) == "queued"


def test_an_equal_call_joins_the_job_and_has_it_wanted_longer(database: Engine) -> None:
    first = call(database, wanted_s=PAST_S)
    again = call(database)
    assert again == Created(first.job_id, joined=True)
    assert jobs(database) == 1
    assert cancel(database) == 0
    assert state(database, first.job_id) == "queued"


@pytest.mark.parametrize("own", [{"reference": "hello"}, {"metadata": {"order": 17}}])
def test_a_call_with_something_of_its_own_waits_for_the_equal_job_as_a_copy(
    database: Engine, own: dict[str, object]
) -> None:
    first = call(database)
    copy = call(database, **own)
    assert not copy.joined
    assert copy.job_id != first.job_id
    compute(database, first.job_id)
    assert get_job(database, TENANT, copy.job_id).cached


def test_a_call_for_a_file_that_was_transcribed_has_succeeded_at_once(database: Engine) -> None:
    first = call(database)
    compute(database, first.job_id)
    again = call(database)
    assert (again.cached, again.joined) == (True, False)
    assert state(database, again.job_id) == "succeeded"


@pytest.mark.parametrize("copy_wanted_s", [None, 60.0, PAST_S])
def test_a_call_is_wanted_as_long_as_a_job_that_waits_for_it(
    database: Engine, copy_wanted_s: float | None
) -> None:
    first = call(database, wanted_s=PAST_S)
    copy = call(database, wanted_s=copy_wanted_s, reference="hello")
    is_wanted = copy_wanted_s != PAST_S
    assert cancel(database) == (0 if is_wanted else 2)
    expected = "queued" if is_wanted else "canceled"
    assert [state(database, each.job_id) for each in (first, copy)] == [expected, expected]


def test_a_call_with_other_edits_is_not_joined(database: Engine) -> None:
    numbers = ORACLE.model_copy(update={"edits": Edits(numerals=True)})
    plain = call(database)
    edited = call(database, options=numbers)
    assert not edited.joined
    compute(database, plain.job_id)
    assert get_job(database, TENANT, edited.job_id).cached


def test_a_call_of_another_tenant_is_not_joined(database: Engine) -> None:
    first = call(database, tenant="other")
    assert not call(database).joined
    assert jobs(database) == 2
    assert calls(database) >= {first.job_id}


def test_a_batch_job_that_a_call_joins_gets_its_priority_and_is_never_unwanted(
    database: Engine,
) -> None:
    batch = call(database, wanted_s=None)
    later = call(database, wanted_s=None, same=False, priority=100)
    joined = call(database, wanted_s=PAST_S, priority=201)
    assert joined == Created(batch.job_id, joined=True)
    assert cancel(database) == 0
    assert get_job(database, TENANT, batch.job_id).priority == 201
    taken = steps.claim_next(database, CPU_QUEUE, owner="test", lease_s=30, limit=1)
    assert [each.job_id for each in taken.claims] == [batch.job_id]
    assert state(database, later.job_id) == "queued"


def test_a_job_that_waits_for_another_lowers_nothing(database: Engine) -> None:
    first = call(database, wanted_s=None, priority=10)
    call(database, wanted_s=None, priority=-10)
    assert get_job(database, TENANT, first.job_id).priority == 10


def test_a_retried_call_is_wanted_by_its_owner(database: Engine) -> None:
    job_id = call(database).job_id
    unreadable = UnreadableMedia("no decoder understands the file")
    steps.fail(database, claim(database, job_id, "prepare"), unreadable)
    retry_job(database, TENANT, job_id, max_attempts=3)
    assert calls(database) == set()


def test_rows_of_calls_that_have_ended_are_removed(database: Engine) -> None:
    done = call(database, wanted_s=PAST_S, same=False).job_id
    compute(database, done)
    canceled = call(database, wanted_s=PAST_S, same=False).job_id
    cancel_job(database, TENANT, canceled, max_attempts=3)
    deleted = call(database, wanted_s=PAST_S, same=False).job_id
    delete_job(database, TENANT, deleted, max_attempts=3)
    assert cancel(database) == 0
    assert calls(database) == set()
    assert state(database, done) == "succeeded"


def test_a_running_call_that_nobody_wants_loses_its_steps(database: Engine) -> None:
    job_id = call(database, wanted_s=PAST_S).job_id
    claim(database, job_id, "prepare")
    assert cancel(database) == 1
    (step,) = step_ids(database, job_id, "prepare")
    with database.begin() as connection:
        found = connection.execute(text("SELECT state FROM steps WHERE id = :id"), {"id": step})
        assert found.scalar_one() == "void"
