"""One event for each end of a job, whatever ends it, in the transaction of that end."""

import json
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_job, claim, expire, finish, missing_table, prepare
from harness.jobs.webhook_store import (
    OTHER_SECRET,
    SECRET,
    TENANT,
    add_hook,
    cancel,
    create,
    deliver_steps,
    deliveries,
    endpoint,
    events,
)
from shared.infra.errors import EngineFailed, UnreadableMedia
from shared.store import steps
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import get_job
from shared.store.jobs.retry import retry_job
from shared.store.states import JobState
from shared.store.webhooks.endpoints import (
    EventType,
    JobWebhook,
    change_endpoint,
    delete_endpoint,
)

URL = "https://receiver.example/hook"


def fail(database: Engine, job_id: UUID) -> None:
    steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("this is a poem"))


def exhaust(database: Engine, job_id: UUID) -> None:
    for _ in range(2):
        steps.retry(database, claim(database, job_id, "prepare"), EngineFailed(""), base_s=0)


def kill_workers(database: Engine, job_id: UUID) -> None:
    for _ in range(2):
        expire(database, claim(database, job_id, "prepare"))
        steps.reap(database)


ENDS: list[tuple[Callable[[Engine, UUID], None], str]] = [
    (compute, "succeeded"),
    (fail, "failed"),
    (exhaust, "failed"),
    (kill_workers, "failed"),
    (cancel, "canceled"),
]


@pytest.mark.parametrize(("end", "state"), ENDS, ids=[end.__name__ for end, _ in ENDS])
def test_each_end_of_a_job_has_one_event(
    database: Engine, end: Callable[[Engine, UUID], None], state: str
) -> None:
    add_hook(database, URL)
    job_id = add_job(database, max_attempts=2)
    assert events(database, job_id) == []
    end(database, job_id)
    (event,) = events(database, job_id)
    assert (event["run"], event["type"]) == (1, f"job.{state}")


@pytest.mark.parametrize(("end", "state"), ENDS[:2], ids=["succeeds", "fails"])
def test_jobs_that_wait_have_their_own_event_as_their_original_ends(
    database: Engine, end: Callable[[Engine, UUID], None], state: str
) -> None:
    add_hook(database, URL)
    jobs = [submit(database) for _ in range(3)]
    end(database, jobs[0])
    for job_id in jobs:
        (event,) = events(database, job_id)
        assert event["type"] == f"job.{state}"
        assert event["body"]["data"]["job_id"] == str(job_id)


def test_a_job_born_with_its_transcript_has_its_event(database: Engine) -> None:
    add_hook(database, URL)
    compute(database, submit(database))
    (event,) = events(database, submit(database))
    assert event["type"] == "job.succeeded"


def test_a_second_cancellation_makes_no_second_event(database: Engine) -> None:
    add_hook(database, URL)
    job_id = add_job(database)
    cancel(database, job_id)
    cancel(database, job_id)
    assert len(events(database, job_id)) == 1


def test_where_no_endpoint_wants_to_be_told_no_event_is_written(database: Engine) -> None:
    add_hook(database, URL, EventType.SUCCEEDED)
    disabled, _ = add_hook(database, URL)
    change_endpoint(database, TENANT, disabled, enabled=False)
    add_hook(database, URL, tenant="somebody else")
    job_id = add_job(database)
    cancel(database, job_id)
    assert events(database, job_id) == []
    assert deliver_steps(database, job_id) == []


def test_each_run_of_a_job_has_its_event(database: Engine) -> None:
    add_hook(database, URL)
    job_id = add_job(database)
    for end in (fail, cancel):
        end(database, job_id)
        retry_job(database, TENANT, job_id, max_attempts=2)
    compute(database, job_id)
    found = [(event["run"], event["type"]) for event in events(database, job_id)]
    assert found == [(1, "job.failed"), (2, "job.canceled"), (3, "job.succeeded")]
    assert len(deliver_steps(database, job_id)) == 3


@pytest.mark.parametrize("table", ["webhook_events", "webhook_deliveries"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled"])
def test_a_job_does_not_end_without_its_event(database: Engine, table: str, state: str) -> None:
    add_hook(database, URL)
    original, copy = submit(database), submit(database)
    compute(database, original, until="finish")
    finishing = claim(database, original, "finish")

    def end() -> None:
        if state == "succeeded":
            finish(database, finishing)
        elif state == "failed":
            steps.fail(database, finishing, UnreadableMedia("no"))
        else:
            cancel(database, original)

    with missing_table(database, table), pytest.raises(ProgrammingError):
        end()

    assert get_job(database, TENANT, original).state == JobState.RUNNING
    assert get_job(database, TENANT, copy).state == JobState.QUEUED
    assert events(database, original) == []
    end()
    assert get_job(database, TENANT, original).state == state
    assert [len(events(database, job_id)) for job_id in (original, copy)] == (
        [1, 0] if state == "canceled" else [1, 1]
    )


def test_an_event_tells_what_happened_and_where_the_rest_is(database: Engine) -> None:
    add_hook(database, URL)
    tags = {"customer": "Ä&Co", "n": [1, 2.5, None]}
    job_id = create(database, metadata=tags, result_url="https://l.example.com/jobs/1")
    fail(database, job_id)
    (event,) = events(database, job_id)
    body = event["body"]
    finished_at = get_job(database, TENANT, job_id).finished_at
    assert datetime.fromisoformat(body.pop("timestamp")) == finished_at
    assert body == {
        "type": "job.failed",
        "data": {
            "job_id": str(job_id),
            "state": "failed",
            "result_url": "https://l.example.com/jobs/1",
            "metadata": tags,
            "error": {"code": "unreadable_media", "detail": "this is a poem"},
        },
    }


def test_an_event_of_success_tells_no_error_and_by_default_a_path(database: Engine) -> None:
    add_hook(database, URL)
    job_id = add_job(database)
    compute(database, job_id)
    (event,) = events(database, job_id)
    assert event["body"]["data"] == {
        "job_id": str(job_id),
        "state": "succeeded",
        "result_url": f"/jobs/{job_id}",
        "metadata": {},
    }


def test_those_who_want_an_event_get_a_delivery_and_nobody_else(database: Engine) -> None:
    every, _ = add_hook(database, URL)
    canceled, _ = add_hook(database, URL, EventType.CANCELED)
    add_hook(database, URL, EventType.SUCCEEDED, EventType.FAILED)
    disabled, _ = add_hook(database, URL)
    change_endpoint(database, TENANT, disabled, enabled=False)
    deleted, _ = add_hook(database, URL)
    delete_endpoint(database, TENANT, deleted)
    add_hook(database, URL, tenant="somebody else")
    job_id = add_job(database)
    cancel(database, job_id)
    found = deliveries(database, job_id)
    assert {view.endpoint_id for view in found} == {every, canceled}
    assert {view.state for view in found} == {"pending"}
    assert len(deliver_steps(database, job_id)) == 2


def test_a_jobs_own_url_is_told_beside_the_webhooks_of_its_tenant(database: Engine) -> None:
    listed, _ = add_hook(database, URL)
    job_id = create(database, webhook=JobWebhook(URL, SECRET))
    another = add_job(database)
    for each in (job_id, another):
        cancel(database, each)
    own = {view.endpoint_id for view in deliveries(database, job_id)} - {listed}
    assert len(own) == 1
    assert not endpoint(database, own.pop()).listed
    assert {view.endpoint_id for view in deliveries(database, another)} == {listed}


def test_jobs_that_name_the_same_url_and_secret_share_an_endpoint(database: Engine) -> None:
    hooks = [
        JobWebhook(URL, SECRET),
        JobWebhook(URL, SECRET),
        JobWebhook(URL, OTHER_SECRET),
        JobWebhook(URL + "2", SECRET),
    ]
    found = []
    for hook in hooks:
        job_id = create(database, webhook=hook)
        cancel(database, job_id)
        found += [view.endpoint_id for view in deliveries(database, job_id)]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_job_enables_its_url_anew(database: Engine) -> None:
    first = create(database, webhook=JobWebhook(URL, SECRET))
    cancel(database, first)
    (delivery,) = deliveries(database, first)
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE webhook_endpoints
                SET enabled = false, disabled_reason = 'gone', failing_since = now()
            """)
        )
    again = create(database, webhook=JobWebhook(URL, SECRET))
    found = endpoint(database, delivery.endpoint_id)
    assert (found.enabled, found.disabled_reason, found.failing_since) == (True, None, None)
    cancel(database, again)
    assert len(deliveries(database, again)) == 1


def test_a_job_with_a_url_of_its_own_is_equal_to_one_without(database: Engine) -> None:
    compute(database, submit(database))
    job_id = create(database, fingerprint="f" * 64, webhook=JobWebhook(URL, SECRET))
    assert get_job(database, TENANT, job_id).cached
    assert len(deliveries(database, job_id)) == 1


def test_deliveries_of_a_job_are_numbered_on(database: Engine) -> None:
    for _ in range(3):
        add_hook(database, URL)
    job_id = add_job(database)
    cancel(database, job_id)
    with database.begin() as connection:
        numbers = connection.execute(
            text("SELECT idx FROM steps WHERE job_id = :id AND kind = 'deliver' ORDER BY idx"),
            {"id": job_id},
        ).scalars()
        assert list(numbers) == [0, 1, 2]


def test_the_body_is_stored_as_it_is_sent(database: Engine) -> None:
    add_hook(database, URL)
    job_id = create(database, metadata={"name": "Ä"})
    cancel(database, job_id)
    with database.begin() as connection:
        body = connection.execute(text("SELECT body FROM webhook_events")).scalar_one()
    assert json.loads(body)["data"]["metadata"] == {"name": "Ä"}
    assert '"name":"Ä"' in body


def test_a_deleted_job_takes_its_events_and_deliveries_with_it(database: Engine) -> None:
    add_hook(database, URL)
    job_id = add_job(database)
    prepare(database, job_id, chunks=1)
    cancel(database, job_id)
    delete_job(database, TENANT, job_id, max_attempts=2)
    assert events(database, job_id) == []
    assert deliveries(database) == []
