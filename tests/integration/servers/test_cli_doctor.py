"""``longhand doctor``: what is as it should be, and each thing that is not."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text

from cli.doctor import servers
from cli.doctor.findings import Finding, Grade
from cli.doctor.traces import traces
from harness.jobs.job_store import add_job
from harness.peers.collector import collecting
from harness.programs.command_line import ENV
from harness.programs.forked import run
from harness.servers.api_server import confined
from harness.servers.redis_server import RedisServer
from shared.infra.settings import Settings
from shared.infra.tracing import export
from shared.store.workers import WorkerEntry, announce


def examined(settings: Settings, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of the API's would, and with more variables."""
    its_own = confined(settings)
    env = {
        "LONGHAND_DATABASE_URL": its_own.database_url.get_secret_value(),
        "LONGHAND_BROKER_URL": its_own.broker_url.get_secret_value(),
        "LONGHAND_STORAGE_URL": its_own.storage_url.get_secret_value(),
        "LONGHAND_DEFAULT_MODEL": "starter",
    }
    return run("cli.main", "doctor", env=ENV | env | variables)


def entry(role: str, model: str | None = None, **facts: str) -> WorkerEntry:
    known = {"id": f"{role}-1", "version": "0.1.0"} | facts
    return WorkerEntry(
        id=known["id"],
        version=known["version"],
        role=role,
        queues=(f"model.{model}" if model else role,),
        model=model,
        slots=1,
        state="ready",
        device="cpu",
        dtype=None,
        load_s=None,
        warm_up_s=None,
    )


def staff(database: Engine) -> None:
    for worker in (entry("cpu"), entry("model", "starter"), entry("deliver"), entry("beat")):
        announce(database, worker)


def lines(page: str, grade: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(grade)]


def test_of_a_deployment_that_works_nothing_must_be_mended(
    settings: Settings, database: Engine
) -> None:
    staff(database)
    done = examined(settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert lines(done.stdout, "error") == []
    for told in (
        "Postgres      schema 0101: this version's",
        "Postgres      this process is longhand_api",
        "Postgres      rows can be written",
        "object store  an object can be written, and read in part",
        "object store  a large file can be uploaded in parts",
        "workers       1 model, for starter",
    ):
        assert any(told in line for line in lines(done.stdout, "ok")), done.stdout
    assert len(done.stdout.splitlines()) < 40, "a page"


def test_no_secret_is_on_the_page(settings: Settings, database: Engine) -> None:
    staff(database)
    page = examined(settings, LONGHAND_API_DATABASE_PASSWORD="hush hush").stdout
    assert "hush" not in page
    for url in (settings.database_url, settings.broker_url, settings.storage_url):
        assert (make_url(url.get_secret_value()).password or "?") not in page


AWAY = "127.0.0.1:9"
FAULTS: dict[str, tuple[Mapping[str, str], str]] = {
    "Postgres": (
        {"LONGHAND_DATABASE_URL": f"postgresql+psycopg://longhand@{AWAY}/longhand"},
        "Postgres      ",
    ),
    "Redis": ({"LONGHAND_BROKER_URL": f"redis://{AWAY}/0"}, "Redis         it cannot be reached"),
    "object store": ({"LONGHAND_STORAGE_URL": f"http://key:hush@{AWAY}/longhand"}, "object store "),
    "no such model": ({"LONGHAND_DEFAULT_MODEL": "vosk"}, "models        LONGHAND_DEFAULT_MODEL"),
}


@pytest.mark.parametrize(("variables", "told"), FAULTS.values(), ids=FAULTS)
def test_what_is_away_is_named_and_the_rest_is_looked_at_all_the_same(
    settings: Settings, database: Engine, variables: Mapping[str, str], told: str
) -> None:
    staff(database)
    done = examined(settings, **variables)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "hush" not in done.stdout
    errors = lines(done.stdout, "error")
    assert any(told in line for line in errors), done.stdout
    assert len(lines(done.stdout, "ok")) >= 4


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(settings: Settings) -> None:
    page = examined(settings, LONGHAND_LEASES="30").stdout
    assert "LONGHAND_LEASES is no setting; LONGHAND_LEASE_S is" in page


def test_it_is_told_whether_the_collector_takes_spans(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hush")
    monkeypatch.setattr(export, "PROBE_S", 60.0)
    with collecting() as collector:
        for base, grade, told in (
            ("", Grade.GOOD, "no collector is named"),
            (collector.url, Grade.GOOD, "the collector at 127.0.0.1 takes spans"),
            (f"{collector.url}/elsewhere", Grade.WARNING, "takes no spans: it answers 404"),
            (f"http://{AWAY}", Grade.WARNING, "takes no spans: it cannot be reached"),
        ):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base)
            (finding,) = traces(settings)
            assert finding.grade is grade
            assert told in finding.sentence
    assert [headers["api-key"] for headers in collector.headers] == ["hush"]


def found(settings: Settings, grade: Grade) -> list[str]:
    findings: list[Finding] = list(servers.workers(settings))
    return [each.sentence for each in findings if each.grade is grade]


def test_who_is_missing_is_told_with_what_that_means(settings: Settings, database: Engine) -> None:
    announce(database, entry("cpu"))
    assert found(settings, Grade.BAD) == [
        "there is no model worker: nothing is transcribed",
        "there is no beat worker: what a dead worker held is not claimed again",
    ]
    assert found(settings, Grade.WARNING) == ["there is no deliver worker: no webhook is sent"]


def test_workers_of_two_versions_and_old_steps_are_told(
    settings: Settings, database: Engine
) -> None:
    staff(database)
    announce(database, entry("cpu", id="cpu-2", version="0.0.9"))
    add_job(database)
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET run_at = run_at - interval '1 hour'"))
    assert found(settings, Grade.WARNING) == [
        "they are of different versions: 0.0.9, 0.1.0",
        "1 steps wait in cpu, the oldest for 60 minutes",
    ]


def test_who_is_the_owner_is_told_to_be_another(settings: Settings, database: Engine) -> None:
    owner = database.url.username
    sentences = [each.sentence for each in servers.postgres(settings)]
    assert any(
        f"this process is {owner}, the tables' owner: run the API as" in each for each in sentences
    )


def test_a_redis_that_forgets_or_writes_to_its_disk_is_told(
    settings: Settings, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path)
    changed = settings.model_copy(update={"broker_url": SecretStr(server.url)})
    try:
        assert {each.grade for each in servers.broker(changed)} == {Grade.GOOD}
        server.client.config_set("maxmemory-policy", "allkeys-lru")
        server.client.config_set("save", "60 1")
        sentences = [each.sentence for each in servers.broker(changed)][1:]
    finally:
        server.kill()
    assert sentences == [
        "maxmemory-policy is allkeys-lru, not noeviction: wake-ups and speech are forgotten",
        "it writes to its disk, and so speech of live sessions; nothing in it must last",
    ]
