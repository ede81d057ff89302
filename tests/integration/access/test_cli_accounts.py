"""``longhand keys`` and ``longhand tenants``: in the database itself, and through a server."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from harness.peers.receivers import receiving
from harness.programs.command_line import ENV, longhand
from harness.programs.forked import run
from harness.programs.workers import wait_until
from harness.servers.api_server import api
from shared.infra.api_keys import check_key
from shared.infra.roles import admit_roles
from shared.infra.settings import WORKER_ROLE, Settings
from shared.store.accounts.keys import create_key, list_keys
from shared.store.accounts.scopes import ALL_SCOPES, Scope

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Place:
    """Where accounts are kept, as the command line is told."""

    server: str | None
    variables: dict[str, str]

    def ask(self, *words: str, **variables: str) -> Done:
        there = () if self.server is None else ("--server", self.server)
        return longhand(*words, *there, **(self.variables | variables))

    def succeed(self, *words: str) -> str:
        """Return what a command prints to stdout."""
        done = self.ask(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def served(module_settings: Settings) -> Iterator[httpx.Client]:
    with api(module_settings.model_copy(update={"auth": "on"})) as client:
        yield client


@pytest.fixture(scope="module")
def database_place(module_settings: Settings) -> Place:
    return Place(None, {"LONGHAND_DATABASE_URL": module_settings.database_url.get_secret_value()})


@pytest.fixture(scope="module")
def server_place(served: httpx.Client, pool: Engine) -> Place:
    _, key = create_key(pool, "default", "an administrator's", {Scope.ADMIN})
    return Place(str(served.base_url), {"LONGHAND_API_KEY": key})


@pytest.fixture(params=["database_place", "server_place"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def the_error(done: Done, code: int = 1) -> str:
    """Check that a command failed with one line, and return it."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("longhand: error: ")
    return line.removeprefix("longhand: error: ")


def opens(client: httpx.Client, key: str) -> bool:
    return client.get("/jobs", headers={"X-API-Key": key}).status_code == 200


def test_tenants_are_created_and_listed(place: Place) -> None:
    tenant = f"acme-{uuid4().hex[:8]}"
    made = place.ask("tenants", "create", tenant, "--name", "Acme Ltd")
    assert (made.returncode, made.stdout) == (0, "")
    assert f"longhand keys create --tenant {tenant}" in made.stderr
    place.succeed("tenants", "create", f"{tenant}-2")
    lines = {line.split()[0]: line for line in place.succeed("tenants", "list").splitlines()}
    assert lines[tenant].endswith("Acme Ltd")
    assert lines[f"{tenant}-2"].endswith(f"  {tenant}-2")
    assert "default" in lines
    assert (
        the_error(place.ask("tenants", "create", tenant)) == f"there is a tenant {tenant} already"
    )


def test_a_key_is_made_rotated_and_revoked(place: Place, served: httpx.Client) -> None:
    tenant = f"rotating-{uuid4().hex[:8]}"
    place.succeed("tenants", "create", tenant)
    scopes = ("--scope", "jobs:read", "--scope", "live")
    made = place.ask("keys", "create", "--tenant", tenant, "--name", "old", "--days", "90", *scopes)
    (old,) = made.stdout.splitlines()
    check_key(old)
    assert made.stderr == "longhand: the key is not shown again\n"
    new = place.succeed("keys", "create", "--tenant", tenant, "--name", "new", *scopes).strip()
    assert opens(served, old)
    assert opens(served, new)

    listed = place.succeed("keys", "list", "--tenant", tenant)
    first, second = listed.splitlines()
    assert first.split()[1:3] == [tenant, "expires"]
    assert first.endswith("jobs:read,live  old")
    assert second.split()[1:3] == [tenant, "valid"]
    assert old not in listed
    assert new not in listed
    revoked = place.ask("keys", "revoke", first.split()[0])
    assert (revoked.returncode, revoked.stdout) == (0, "")
    assert revoked.stderr == f"longhand: revoked old of {tenant}\n"
    wait_until(lambda: not opens(served, old))
    assert opens(served, new)
    assert " revoked " in place.succeed("keys", "list", "--tenant", tenant).splitlines()[0]
    assert len(place.succeed("keys", "list").splitlines()) > 2


def test_without_a_scope_a_key_opens_all_but_administration_and_priority(
    place: Place, pool: Engine
) -> None:
    name = uuid4().hex
    place.succeed("keys", "create", "--name", name)
    (view,) = (each for each in list_keys(pool, "default") if each.name == name)
    assert set(view.scopes) == set(map(str, ALL_SCOPES - {Scope.ADMIN, Scope.JOBS_PRIORITY}))
    assert view.expires_at is None


def test_what_accounts_refuse_is_one_line(place: Place) -> None:
    unknown = str(uuid4())
    create = ("keys", "create", "--tenant")
    assert the_error(place.ask(*create, "nobody")) == "there is no tenant nobody"
    assert the_error(place.ask("keys", "revoke", unknown)) == f"there is no key {unknown}"
    assert "tenant" in the_error(place.ask(*create, "Not An Id"))
    assert "id" in the_error(place.ask("tenants", "create", "Not An Id"))
    assert "name" in the_error(place.ask("keys", "create", "--name", "two\nlines"))
    assert "name" in the_error(place.ask("keys", "create", "--name", "x" * 201))
    for words in (("tenants", "create", "fine", "--name"), ("keys", "list", "--tenant")):
        assert "must be text" in the_error(place.ask(*words, "\udcff"))


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "--scope", "everything"),
        ("keys", "create", "--days", "0"),
        ("keys", "create", "--days", "nan"),
        ("keys", "create", "--days", "1000000"),
        ("keys", "revoke", "lh_live_0"),
        ("keys", "revoke"),
        ("tenants", "create"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(database_place: Place, words: tuple[str, ...]) -> None:
    assert " --help')" in the_error(database_place.ask(*words), 2)


def test_a_server_that_lets_nobody_administer_it_is_one_line(
    server_place: Place, pool: Engine
) -> None:
    _, blind = create_key(pool, "default", "no administrator's", ALL_SCOPES - {Scope.ADMIN})
    without = the_error(server_place.ask("keys", "list", LONGHAND_API_KEY=""))
    assert without.endswith("(LONGHAND_API_KEY)")
    assert without == the_error(server_place.ask("keys", "list", LONGHAND_API_KEY="wrong"))
    assert "scope admin" in the_error(server_place.ask("keys", "list", LONGHAND_API_KEY=blind))


def test_what_is_no_platform_is_one_line(
    tmp_path: Path, module_settings: Settings, database_place: Place
) -> None:
    nothing = longhand("keys", "list", "--data", tmp_path / "none", LONGHAND_DATABASE_URL="")
    assert the_error(nothing).startswith(f"no platform runs in {tmp_path / 'none'}")
    gone = "http://127.0.0.1:9"
    assert the_error(longhand("tenants", "list", "--server", gone)).startswith(
        f"cannot reach {gone}"
    )
    wrong_address = the_error(longhand("keys", "list", "--server", "nonsense"))
    assert wrong_address.startswith("'nonsense' is not a server's address")
    with receiving() as other:
        strange = longhand("tenants", "create", "acme", "--server", other.url)
    assert the_error(strange).endswith("does not answer like a Longhand server")
    url = make_url(module_settings.database_url.get_secret_value())
    wrong = {
        "nonsense": "LONGHAND_DATABASE_URL: must be postgresql",
        url.set(port=9).render_as_string(hide_password=False): "Postgres cannot be reached",
        url.set(database="none").render_as_string(hide_password=False): "Postgres",
    }
    for given, told in wrong.items():
        error = the_error(longhand("keys", "list", LONGHAND_DATABASE_URL=given))
        assert told in error
        assert str(url.password) not in error


def test_a_database_that_shows_no_keys_is_one_line(
    database_place: Place, module_settings: Settings
) -> None:
    """The workers' role may not see them."""
    url = make_url(module_settings.database_url.get_secret_value())
    password = SecretStr(url.password or "")
    admit_roles(module_settings.model_copy(update={"worker_database_password": password}))
    workers = url.set(username=WORKER_ROLE).render_as_string(hide_password=False)
    error = the_error(database_place.ask("keys", "list", LONGHAND_DATABASE_URL=workers))
    assert error.endswith("permission denied for table api_keys")


@pytest.mark.parametrize(
    "start",
    [
        lambda: run("api", "--host", "0.0.0.0", env=ENV | {"LONGHAND_AUTH": "off"}),
        lambda: longhand("up", "--host", "0.0.0.0", LONGHAND_AUTH="off"),
        lambda: longhand("up", "--host", "::", LONGHAND_AUTH="off"),
    ],
    ids=["api", "up", "up on ::"],
)
def test_nobody_lets_everybody_in_beyond_loopback(start: Callable[[], Done]) -> None:
    done = start()
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert re.search(r"rror: LONGHAND_AUTH=off lets everybody in who reaches (0.0.0.0|::)", line)
