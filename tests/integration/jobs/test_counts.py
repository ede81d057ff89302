"""How many jobs and steps there are: exact where it is cheap, and never at the history's cost."""

import pytest
from sqlalchemy import Engine, text

from harness.database.query_plans import explain, most_rows
from harness.jobs.job_store import add_job, claim, finish, prepare, transcribe
from shared.store import counts
from shared.store.counts import count_jobs, measure_queues
from shared.store.jobs.cancel import cancel_job

MANY = 3_000


def add_history(database: Engine) -> None:
    """Jobs that have succeeded, each with steps that are done."""
    with database.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO jobs (id, tenant, state, cached, model, options, source_key,
                                  source_name, source_bytes, sha256, finished_at, first_event)
                SELECT gen_random_uuid(), 'default', 'succeeded', n % 3 = 0, 'oracle', '{}', 'k',
                       'a.wav', 1, '0', now(), n
                FROM generate_series(1, :many) AS n
            """),
            {"many": MANY},
        )
        connection.execute(
            text("""
                INSERT INTO steps (job_id, kind, idx, queue, tenant, rank, state, max_attempts)
                SELECT id, 'transcribe', idx, 'model.oracle', 'default', 0, 'done', 5
                FROM jobs CROSS JOIN generate_series(0, 3) AS idx
            """)
        )


def add_live_jobs(database: Engine) -> None:
    """One queued, one at its chunks, one canceled on the way."""
    add_job(database)
    for _ in range(2):
        job_id = add_job(database)
        prepare(database, job_id, 3)
        transcribe(database, claim(database, job_id, "transcribe"))
    cancel_job(database, "default", job_id, max_attempts=3)


def test_few_jobs_are_counted_one_by_one(database: Engine) -> None:
    add_live_jobs(database)
    done = add_job(database)
    prepare(database, done, 0)
    finish(database, claim(database, done, "finish"))
    expected = {"queued": 1, "running": 1, "succeeded": 1, "failed": 0, "canceled": 1}
    assert count_jobs(database).by_state == expected
    assert count_jobs(database).cached == 0


def test_of_many_jobs_the_active_are_counted_and_the_ended_estimated(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "MOST_COUNTED", 100)
    add_history(database)
    add_live_jobs(database)
    with database.begin() as connection:
        connection.execute(text("ANALYZE jobs"))
    add_job(database)  # since then

    found = count_jobs(database)

    assert (found.by_state["queued"], found.by_state["running"]) == (2, 1)
    assert found.by_state["succeeded"] == pytest.approx(MANY, rel=0.05)
    assert found.cached == pytest.approx(MANY / 3, rel=0.05)


def test_no_count_looks_at_more_rows_than_its_bound_and_what_is_live(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "MOST_COUNTED", 100)
    add_history(database)
    add_live_jobs(database)
    few = explain(database, counts._FEW.text, {"most": counts.MOST_COUNTED + 1})
    assert most_rows(few) <= counts.MOST_COUNTED + 1
    for query in (counts._ACTIVE, counts._QUEUES):
        assert most_rows(explain(database, query.text, {})) < 50


def test_steps_of_jobs_that_have_ended_are_not_counted(database: Engine) -> None:
    add_history(database)
    add_live_jobs(database)
    found = {
        load.queue: (load.queued_steps, load.running_steps) for load in measure_queues(database)
    }
    assert found == {"cpu": (1, 0), "model.oracle": (2, 0)}
