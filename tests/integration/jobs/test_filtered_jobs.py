"""Lists of jobs with filters: what they have, what is refused, and what Postgres does for them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from harness.database.query_plans import explain, most_rows
from harness.jobs.ended import cancel, fail
from harness.jobs.job_store import ORACLE, add_batch, add_job, new_job, prepare
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.store.jobs.create import create_job
from shared.store.jobs.filters import JobFilter, page_query
from shared.store.states import JobState

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def found(client: httpx.Client, query: str) -> list[UUID]:
    answer = client.get(f"/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return [UUID(job["id"]) for job in answer.json()["jobs"]]


def add(database: Engine, **fields: object) -> UUID:
    job = new_job(**fields)  # type: ignore[arg-type]
    create_job(database, job, max_attempts=1)
    return job.id


def test_jobs_are_listed_by_state_and_by_several_states(
    client: httpx.Client, database: Engine
) -> None:
    queued, running, failed, canceled = (add_job(database, max_attempts=1) for _ in range(4))
    prepare(database, running, 1)
    fail(database, failed)
    cancel(database, canceled)

    assert found(client, "state=queued") == [queued]
    assert found(client, "state=failed") == [failed]
    assert found(client, "state=queued&state=canceled&state=running") == [canceled, running, queued]
    first = client.get("/jobs?state=canceled&state=running&limit=1").json()
    cursor = first["next_cursor"]
    assert found(client, f"state=canceled&state=running&limit=1&cursor={cursor}") == [running]


def test_jobs_are_listed_by_model_and_by_language_given_or_detected(
    client: httpx.Client, database: Engine
) -> None:
    given = add(database, options=ORACLE.model_copy(update={"language": "de"}))
    detected = add_job(database)
    with database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET detected_language = 'de' WHERE id = :id"), {"id": detected}
        )
    other = add(database, options=ORACLE.model_copy(update={"model": "starter"}))

    assert found(client, "language=German") == [detected, given]
    assert found(client, "model=starter") == [other]
    assert found(client, "model=oracle&language=de&limit=1") == [detected]
    assert found(client, "model=nonesuch") == []


def test_jobs_are_listed_by_batch(client: httpx.Client, database: Engine) -> None:
    batch_id, other = add_batch(database, 3), add_batch(database, 1)
    add_job(database)

    first = client.get(f"/jobs?batch_id={batch_id}&limit=2").json()
    rest = found(client, f"batch_id={batch_id}&limit=2&cursor={first['next_cursor']}")

    assert (len(first["jobs"]), len(rest)) == (2, 1)
    assert {job["batch_id"] for job in first["jobs"]} == {str(batch_id)}
    assert len(found(client, f"batch_id={other}&state=queued")) == 1
    assert found(client, f"batch_id={uuid7()}") == []


def test_jobs_are_listed_by_when_they_were_taken(client: httpx.Client, database: Engine) -> None:
    old, middle, new = (add_job(database) for _ in range(3))
    with database.begin() as connection:
        for job_id, day in ((old, 1), (middle, 2), (new, 3)):
            connection.execute(
                text("UPDATE jobs SET created_at = make_date(2026, 11, :day) WHERE id = :id"),
                {"id": job_id, "day": day},
            )

    def days(first: int, last: int) -> list[UUID]:
        return found(
            client,
            f"created_from=2026-11-0{first}T00:00:00Z&created_before=2026-11-0{last}T00:00:00Z",
        )

    assert days(1, 4) == [new, middle, old]
    assert days(2, 3) == [middle]
    assert found(client, "created_before=2026-11-02T00:00:00%2B01:00") == [old]
    assert found(client, "created_from=2026-11-03T00:00:00Z") == [new]


def test_jobs_are_listed_by_members_of_their_metadata(
    client: httpx.Client, database: Engine
) -> None:
    number = add(database, metadata={"order": 17, "shop": "a=b"})
    string = add(database, metadata={"order": "17", "paid": True, "items": [17]})
    foreign = add(database, tenant="somebody else", metadata={"order": 17})
    many = add(database, metadata={f"k{n}": n for n in range(65)})

    assert found(client, "metadata=order=17") == [string, number]
    assert found(client, "metadata=order=17&metadata=shop=a=b") == [number]
    assert found(client, "metadata=order=17&metadata=paid=true&state=queued") == [string]
    assert found(client, "metadata=order=17&limit=1") == [string]
    assert found(client, "metadata=items=17") == []
    assert (found(client, "metadata=k63=63"), found(client, "metadata=k64=64")) == ([many], [])
    assert foreign not in found(client, "metadata=order=17")


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ("state=done", "invalid_request", "'queued', 'running', 'succeeded'"),
        ("batch_id=1", "invalid_request", "batch_id"),
        ("model=%00", "invalid_request", "model"),
        ("language=Klingonese", "unsupported_language", "klingonese"),
        ("created_from=yesterday", "invalid_request", "2026-11-27T14:30:00Z"),
        ("created_from=1700000000", "invalid_request", "2026-11-27T14:30:00Z"),
        ("created_from=2026-11-27T14:30:00", "invalid_request", "2026-11-27T14:30:00Z"),
        (
            "created_from=2026-11-02T00:00:00Z&created_before=2026-11-01T00:00:00Z",
            "conflicting_options",
            "before",
        ),
        ("metadata=order", "invalid_request", "metadata"),
        ("metadata=a=1&metadata=a=2", "conflicting_options", "two values for 'a'"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(
    client: httpx.Client, query: str, code: str, told: str
) -> None:
    assert told in str(assert_problem(client.get(f"/jobs?{query}"), 422, code)["detail"])


MANY = 3_000
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_HISTORY = text("""
    WITH old AS (
        INSERT INTO jobs (id, tenant, state, model, options, source_key, source_name, source_bytes,
                          sha256, first_event, created_at, detected_language)
        SELECT gen_random_uuid(), CASE n % 2 WHEN 0 THEN 'default' ELSE 'other' END, 'succeeded',
               'oracle', '{"model": "oracle", "vad": "off"}', '', '', 1, '', n,
               CAST(:begun AS timestamptz) + n * interval '1 hour', 'en'
        FROM generate_series(1, :many) AS n
        RETURNING id, tenant, first_event
    )
    INSERT INTO job_metadata (tenant, key, value, first_event, job_id)
    SELECT tenant, 'shop', 'a', first_event, id FROM old
""")


@pytest.mark.parametrize(
    "chosen",
    [
        JobFilter(states=frozenset({JobState.FAILED})),
        JobFilter(states=frozenset({JobState.QUEUED, JobState.FAILED, JobState.SUCCEEDED})),
        JobFilter(model="starter"),
        JobFilter(language="de"),
        JobFilter(batch_id=UUID(int=1)),
        JobFilter(created_before=BEGUN + timedelta(hours=100)),
        JobFilter(created_from=BEGUN + timedelta(hours=MANY), model="oracle"),
        JobFilter(metadata={"shop": "b"}),
        JobFilter(metadata={"shop": "a"}),
    ],
)
def test_no_page_costs_more_the_longer_the_history_is(database: Engine, chosen: JobFilter) -> None:
    with database.begin() as connection:
        connection.execute(_HISTORY, {"many": MANY, "begun": BEGUN})
        connection.execute(text("ANALYZE job_metadata"))
    query, parameters = page_query("id, first_event", chosen)
    parameters |= {"tenant": "default", "before": MANY + 1, "limit": 20}
    for name in parameters:
        query = query.replace(f"%({name})s", f":{name}")

    plan = explain(database, query, parameters, tenant="default")

    assert most_rows(plan) <= 60, plan
