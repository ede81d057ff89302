"""Long polls: answered when the job ends, or when the wait is over."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest
from sqlalchemy import Engine

from api.app import create_app, end_waits
from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim
from harness.jobs.spoken import planned
from harness.programs.workers import wait_until
from harness.servers.api_server import assert_problem, confined, serving
from shared.infra.settings import Settings

pytestmark = pytest.mark.usefixtures("database")


def test_a_long_poll_is_answered_as_soon_as_the_job_ends(
    settings: Settings, database: Engine
) -> None:
    job_id = add_job(database)
    planned(database, job_id, 0)
    app = create_app(confined(settings))
    with (
        serving(app, on_stop=partial(end_waits, app)) as url,
        httpx.Client(base_url=url, timeout=90) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        query = {"wait": "60", "include": "words"}
        polling = pool.submit(client.get, f"/jobs/{job_id}", params=query)
        client.get("/health/live")  # the application has started
        wait_until(lambda: app.state.resources.watcher._watched)
        finishing = claim(database, job_id, "finish")
        assert not polling.done()
        began = time.monotonic()
        job_store.finish(database, finishing)
        answer = polling.result().json()
        assert time.monotonic() - began < 30
        assert answer["state"] == "succeeded"
        assert answer["transcript"] == job_store.TRANSCRIPT.model_dump(mode="json")
        # Of an ended job at once.
        began = time.monotonic()
        client.get(f"/jobs/{job_id}", params={"wait": 60})
        assert time.monotonic() - began < 30


def test_a_long_poll_of_a_job_that_goes_on_is_answered_after_the_wait(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    began = time.monotonic()
    answer = client.get(f"/jobs/{job_id}", params={"wait": 0.5})
    assert time.monotonic() - began > 0.5
    assert answer.json()["state"] == "queued"


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
def test_a_wait_out_of_bounds_is_refused(client: httpx.Client, database: Engine, wait: str) -> None:
    answer = client.get(f"/jobs/{add_job(database)}", params={"wait": wait})
    assert_problem(answer, 422, "invalid_request")
