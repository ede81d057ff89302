"""The three bundled servers, started below a folder that only its owner may enter."""

import os
import shutil
import socket
from pathlib import Path

import port_for.ephemeral
import psutil
import pytest
import sqlalchemy

from cli.embedded import postgres, rclone, servers
from cli.embedded.directory import DataDirectory
from cli.embedded.ports import free_ports
from cli.embedded.servers import running_servers
from cli.errors import CommandError
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage

UPLOAD_PARTS = 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    return private / "data"


def test_servers_keep_their_data_over_a_restart_and_are_not_made_anew(path: Path) -> None:
    said: list[str] = []
    with running_servers(path, said.append) as endpoints:
        engine = sqlalchemy.create_engine(endpoints.database_url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE kept AS SELECT 42 AS answer"))
        engine.dispose()
        Storage(endpoints.storage_url).put("kept", b"object")
    assert len(said) == 1
    assert "creating the database" in said.pop()
    with running_servers(path, said.append) as endpoints:
        assert said == []
        engine = sqlalchemy.create_engine(endpoints.database_url)
        with engine.begin() as connection:
            assert connection.execute(sqlalchemy.text("SELECT answer FROM kept")).scalar() == 42
            assert connection.execute(sqlalchemy.text("SHOW fsync")).scalar() == "on"
        engine.dispose()
        assert Storage(endpoints.storage_url).read("kept", 0, 100) == b"object"
    # Only TCP: nothing to clear away.
    assert not [entry for entry in path.rglob("*") if entry.is_socket()]


DAMAGES = [
    "",
    "{",
    '{"postgres_password": "3f',
    '{"children": [',
    "[]",
    '{"children": 7}',
    "\0\xff",
]


@pytest.mark.parametrize("name", ["stack.json", "credentials.json"])
@pytest.mark.parametrize("content", DAMAGES)
def test_a_damaged_file_is_one_sentence_that_names_it(path: Path, name: str, content: str) -> None:
    DataDirectory(path).create()
    (path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CommandError) as told, running_servers(path):
        pass
    assert str(told.value).startswith(f"{path / name} is damaged; ")
    assert (path / name).read_bytes() == content.encode("latin-1"), "nothing is lost"


def test_no_repr_has_a_secret(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.create()
    secrets = directory.credentials()
    hidden = (
        *(secrets.postgres_password, secrets.postgres_api_password),
        *(secrets.postgres_worker_password, secrets.valkey_password, secrets.s3_secret),
    )
    schemes = (*["postgresql+psycopg"] * 3, "redis", "http")
    endpoints = servers.Endpoints(
        *(f"{scheme}://u:{secret}@h/x" for scheme, secret in zip(schemes, hidden, strict=True))
    )
    program = rclone.program(directory.storage, 9, secrets.s3_key, secrets.s3_secret)
    settings = Settings(
        **{name.removeprefix("LONGHAND_").lower(): value for name, value in endpoints.env().items()}
    )
    told = repr([secrets, endpoints, program, settings])
    assert "rclone" in told
    assert not [secret for secret in (*hidden, secrets.flower_password) if secret in told]


def test_database_of_a_newer_version_is_refused_in_one_line(path: Path) -> None:
    with running_servers(path) as endpoints:
        engine = sqlalchemy.create_engine(endpoints.database_url)
        with engine.begin() as connection:
            newer = "UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'"
            connection.execute(sqlalchemy.text(newer))
        engine.dispose()
    (path / "postgres" / "longhand-schema").unlink()
    with pytest.raises(CommandError, match="newer version of Longhand"), running_servers(path):
        pass


@pytest.mark.parametrize("changed", ["0101_schema.py", "0101/jobs.sql"])
def test_a_schema_is_migrated_once_and_again_when_a_file_of_it_has_changed(
    path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    migrated: list[Settings] = []
    monkeypatch.setattr("shared.infra.schema.migrate", migrated.append)
    monkeypatch.setattr("shared.infra.roles.admit_roles", lambda _: None)
    monkeypatch.setattr(servers, "MIGRATIONS", shutil.copytree(servers.MIGRATIONS, path / "copy"))
    directory = DataDirectory(path)
    directory.create()
    directory.postgres.mkdir()

    for expected in (1, 1):
        servers.migrate(directory, "postgresql+psycopg://nowhere")
        assert len(migrated) == expected
    with (path / "copy" / changed).open("a") as file:
        file.write("\n")
    servers.migrate(directory, "postgresql+psycopg://nowhere")
    assert len(migrated) == 2


def test_large_upload_is_readable_at_once_and_served_in_bounded_memory(path: Path) -> None:
    with running_servers(path) as endpoints:
        storage = Storage(endpoints.storage_url)
        upload = storage.start_upload("large")
        part = os.urandom(PART_BYTES)
        for number in range(1, UPLOAD_PARTS + 1):
            upload.send(number, part)
        upload.finish()
        start = 3 * PART_BYTES - 5
        assert len(storage.read("large", 0, 2**40)) == UPLOAD_PARTS * PART_BYTES
        assert storage.read("large", start, start + 10) == part[-5:] + part[:5]
        (rclone,) = (
            p
            for p in psutil.Process().children()
            if "rclone" in p.name() and str(path) in " ".join(p.cmdline())
        )
        assert rclone.memory_info().rss < UPLOAD_PARTS * PART_BYTES


def test_no_port_is_of_those_that_are_given_to_whoever_asks_for_any() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = free_ports(100)
    assert len(set(ports)) == 100
    assert not [port for port in ports if port <= 1024 or low <= port <= high]


def test_ports_are_found_where_the_system_gives_away_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_for.ephemeral, "port_ranges", lambda: [(1024, 65_535)])
    assert len(set(free_ports(3))) == 3


def test_servers_move_when_one_of_their_ports_was_taken_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = int(other.getsockname()[1])
        choices = [[*free_ports(1), taken, *free_ports(1)], free_ports(3)]
        monkeypatch.setattr(servers, "free_ports", lambda count: choices.pop(0))
        with running_servers(path) as endpoints:
            assert f":{taken}/" not in endpoints.broker_url
    assert choices == []


def test_unfinished_cluster_is_made_anew(path: Path) -> None:
    directory = DataDirectory(path)
    directory.create()
    draft = path / "postgres.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    postgres.ensure_cluster(directory.postgres, "secret")
    assert (directory.postgres / "global" / "pg_control").exists()
    assert sorted(entry.name for entry in path.iterdir() if "postgres" in entry.name) == [
        "postgres"
    ]


def test_cluster_of_an_unbundled_version_is_refused_by_name(path: Path) -> None:
    directory = DataDirectory(path)
    directory.create()
    directory.postgres.mkdir()
    (directory.postgres / "PG_VERSION").write_text("12\n")
    with pytest.raises(CommandError, match="made by PostgreSQL 12, but only"):
        postgres.program(directory.postgres, 1)


def test_little_space_is_told_in_megabytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.embedded.directory.MIN_FREE_BYTES", 2**60)
    with pytest.raises(CommandError, match=r"no space left in .* MB free"):
        DataDirectory(path).create()
