"""A database that is not what Longhand needs: what an operator is told, and by whom."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from harness.programs import forked
from harness.programs.workers import Fleet, Worker, environment, fleet, wait_until
from harness.repository.tree import ROOT
from harness.servers.api_server import api, api_process, assert_problem
from harness.servers.databases import scratch_settings
from shared.infra.database import begin, make_engine
from shared.infra.errors import DatabaseUnfit
from shared.infra.schema import check, migrate, own_revision
from shared.infra.settings import Settings
from shared.store.workers import live_workers

ROLES = (
    ("cpu", "--concurrency", "1"),
    ("model", "--model", "oracle"),
    ("deliver", "--concurrency", "1"),
    ("beat",),
)
MISSING = "the database lacks this version's schema: run `python -m worker migrate`"
NEWER = (
    "the database has schema 9999 of a newer version of Longhand, on which this version, of schema "
    f"{own_revision()}, does not work: upgrade this process"
)


def encoding_is(encoding: str) -> str:
    return f"the database's encoding is {encoding}, not UTF8, in which transcripts are kept: "


def run(settings: Settings, *words: str) -> tuple[int, str]:
    """Run ``python -m WORDS`` to its end, forked; return the exit code and what it said."""
    done = forked.run(*words, env=environment(settings) | {"PYTHONPATH": str(ROOT)})
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def workers(servers: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(servers, tmp_path) as started:
        yield started


@pytest.fixture
def odd(servers: Settings, request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty database of the encoding that the test names."""
    return scratch_settings(servers, "odd", encoding=request.param)


def set_revision(settings: Settings, revision: str) -> None:
    engine = make_engine(settings)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE alembic_version SET version_num = :to, compatible_from = :oldest"),
            {"to": revision, "oldest": revision},
        )
    engine.dispose()


@pytest.mark.parametrize(
    ("odd", "encoding"), [("SQL_ASCII", "SQL_ASCII"), ("LATIN1", "LATIN1")], indirect=["odd"]
)
def test_a_database_of_another_encoding_is_not_migrated(odd: Settings, encoding: str) -> None:
    code, said = run(odd, "worker", "migrate")
    assert code == 1
    assert said.startswith(f"Error: {encoding_is(encoding)}")
    assert said.count("\n") == 1
    engine = make_engine(odd)
    with engine.begin() as connection:
        tables = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert connection.execute(tables).scalar_one() == 0
    with pytest.raises(DatabaseUnfit, match=encoding):
        check(engine)
    engine.dispose()


@pytest.mark.parametrize("odd", ["SQL_ASCII"], indirect=True)
def test_nobody_starts_on_a_database_of_another_encoding(odd: Settings, workers: Fleet) -> None:
    assert_all_end(workers, odd, encoding_is("SQL_ASCII"))


def test_nobody_starts_on_the_schema_of_a_newer_version(servers: Settings, workers: Fleet) -> None:
    newer = scratch_settings(servers, "newer")
    migrate(newer)
    set_revision(newer, "9999")
    assert_all_end(workers, newer, NEWER)
    assert run(newer, "worker", "migrate") == (1, f"Error: {NEWER}\n")


def assert_all_end(workers: Fleet, settings: Settings, sentence: str) -> None:
    """The API and all workers end with this sentence, their last."""
    workers.settings = settings
    started = [workers.start(*words) for words in ROLES]
    code, said = run(settings, "api", "--port", "1")
    assert code == 1
    assert said.startswith(f"Error: {sentence}")
    for worker in started:
        assert worker.process.wait(120) == 1
        assert worker.log.rstrip().rpartition("\n")[2].startswith(f"Error: {sentence}")
        assert "Traceback" not in worker.log


def test_workers_wait_for_the_migration_and_say_so_once(servers: Settings, workers: Fleet) -> None:
    late = scratch_settings(servers, "late")
    workers.settings = late
    started = [workers.start(*words) for words in ROLES]
    sentence = f"the worker waits: {MISSING}"
    wait_until(lambda: all(sentence in log(worker) for worker in started), within_s=120)

    assert run(late, "worker", "migrate")[0] == 0

    engine = make_engine(late)
    wait_until(lambda: n_ready(engine) == len(ROLES), within_s=120)
    engine.dispose()
    for worker in started:
        assert worker.log.count(sentence) == 1
        assert "Traceback" not in worker.log
        worker.stop(within_s=60)


def log(worker: Worker) -> str:
    assert worker.process.poll() is None, worker.log
    return worker.log


def n_ready(engine: Engine) -> int:
    return len([each for each in live_workers(engine, live_s=30) if each.state == "ready"])


def test_requests_before_the_migration_are_told_to_run_it(servers: Settings) -> None:
    early = scratch_settings(servers, "early")
    with api(early) as client:
        upload = {"file": ("a.wav", b"RIFF", "audio/wav")}
        for answer in (
            client.post("/jobs", files=upload),
            client.get("/jobs"),
            client.get("/workers"),
            client.get("/webhooks/deliveries"),
        ):
            problem = assert_problem(answer, 503, "schema_missing")
            assert problem["detail"] == MISSING
            assert answer.headers["retry-after"]
        startup = client.get("/health/startup")
        assert (startup.status_code, startup.json()["detail"]) == (503, MISSING)
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["postgres"]["detail"]) == (503, MISSING)
        migrate(early)
        assert client.get("/jobs").status_code == 200
        assert client.get("/health/startup").status_code == 200


def test_a_column_that_a_newer_version_has_dropped_is_told_as_that(servers: Settings) -> None:
    newer = scratch_settings(servers, "dropped")
    migrate(newer)
    engine = make_engine(newer)
    wrong = text("SELECT no_such_column FROM jobs")
    with pytest.raises(ProgrammingError), begin(engine) as connection:
        connection.execute(wrong)  # a mistake of ours stays one
    set_revision(newer, "9999")
    with pytest.raises(DatabaseUnfit), begin(engine) as connection:
        connection.execute(wrong)
    engine.dispose()


def test_the_api_says_at_its_start_what_is_missing(servers: Settings, tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with api_process(scratch_settings(servers, "early"), log) as (client, _):
        assert client.get("/health/live").status_code == httpx.codes.OK
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    warnings = [line["message"] for line in lines if line["level"] == "WARNING"]
    assert warnings.count(MISSING) == 1
    assert "Traceback" not in log.read_text()
