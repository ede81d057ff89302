"""Deliveries over real sockets: listed and replayed."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job
from harness.jobs.webhook_store import add_hook, cancel, deliver_steps, deliveries
from harness.servers.api_server import assert_problem

URL = "https://receiver.example/hook"


def test_deliveries_are_listed_newest_first_by_page_and_filter(
    client: httpx.Client, database: Engine
) -> None:
    first, _ = add_hook(database, URL)
    second, _ = add_hook(database, URL)
    add_hook(database, URL, tenant="somebody else")
    jobs = [add_job(database) for _ in range(3)]
    for job_id in jobs:
        cancel(database, job_id)
    theirs = add_job(database, tenant="somebody else")
    cancel(database, theirs, "somebody else")
    with database.begin() as connection:
        connection.execute(
            text("UPDATE webhook_deliveries SET state = 'failed' WHERE endpoint_id = :id"),
            {"id": second},
        )

    def listed(**parameters: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = client.get(
                "/webhooks/deliveries",
                params={"limit": 2, **parameters, **({"cursor": cursor} if cursor else {})},  # type: ignore[dict-item]
            ).json()
            found += page["deliveries"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert [each["id"] for each in listed()] == [str(view.id) for view in deliveries(database)]
    assert len(listed()) == 6
    of_job = listed(job_id=jobs[1])
    assert {each["job_id"] for each in of_job} == {str(jobs[1])}
    assert len(of_job) == 2
    assert [each["endpoint_id"] for each in listed(endpoint_id=first)] == [str(first)] * 3
    assert {each["endpoint_id"] for each in listed(state="failed")} == {str(second)}
    assert len(listed(state="pending", endpoint_id=first, job_id=jobs[0])) == 1
    assert listed(job_id=theirs) == []
    (pending,) = listed(job_id=jobs[0], endpoint_id=first)
    assert pending["next_attempt_at"] is not None
    assert json.loads(pending["event"]["body"])["data"]["job_id"] == str(jobs[0])


@pytest.mark.parametrize(
    "parameters", [{"cursor": "x"}, {"job_id": "x"}, {"endpoint_id": "x"}, {"state": "x"}], ids=str
)
def test_a_bad_filter_is_refused(client: httpx.Client, parameters: dict[str, str]) -> None:
    answer = client.get("/webhooks/deliveries", params=parameters)
    assert_problem(answer, 422, "invalid_request")


def test_a_replay_is_pending_again_and_has_a_step(client: httpx.Client, database: Engine) -> None:
    endpoint_id, _ = add_hook(database, URL)
    job_id = add_job(database)
    cancel(database, job_id)
    (delivery,) = client.get("/webhooks/deliveries").json()["deliveries"]
    path = f"/webhooks/deliveries/{delivery['id']}/replay"
    problem = assert_problem(client.post(path), 409, "delivery_not_replayable")
    assert problem["detail"] == "the delivery is pending"
    client.patch(f"/webhooks/{endpoint_id}", json={"enabled": False})
    assert_problem(client.post(path), 409, "delivery_not_replayable")
    client.patch(f"/webhooks/{endpoint_id}", json={"enabled": True})
    answer = client.post(path)
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["event"]) == ("pending", delivery["event"])
    assert len(deliver_steps(database, job_id)) == 1
