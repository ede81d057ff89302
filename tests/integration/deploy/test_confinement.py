"""In docker-compose.yml each process has its own user and rights, and no secret is a default."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.deployment.compose_file import SECRETS, Compose, env_of, example_env, interpolated
from harness.deployment.confinement import (
    exposed_ports,
    exposed_secrets,
    unconfined,
    wrong_addresses,
    wrong_database_users,
)
from harness.repository.tree import ROOT


def test_every_url_reaches_a_service_with_the_password_that_service_was_given(raw: Compose) -> None:
    env = {
        "POSTGRES_PASSWORD": "one",
        "API_DATABASE_PASSWORD": "six",
        "WORKER_DATABASE_PASSWORD": "seven",
        "REDIS_PASSWORD": "two",
        "S3_KEY": "three",
        "S3_SECRET": "four",
        "FLOWER_PASSWORD": "five",
    }
    compose = interpolated(raw, env)
    assert wrong_addresses(compose) == []

    flower = compose["services"]["flower"]["environment"]
    assert flower["LONGHAND_FLOWER_PASSWORD"] == "five"
    assert flower["LONGHAND_BROKER_URL"] == "redis://:two@redis:6379/0"

    environment = compose["services"]["api"]["environment"]
    environment["LONGHAND_BROKER_URL"] = "redis://:one@redis:6379/0"
    environment["LONGHAND_STORAGE_URL"] = "http://three:four@minio:9000/longhand"
    assert wrong_addresses(compose) == [
        "api: wrong password for redis",
        "api: minio is not a server here",
    ]


def test_every_process_is_its_own_user_of_postgres(default: Compose, broken: Compose) -> None:
    assert wrong_database_users(default) == []

    services = broken["services"]
    services["api"]["environment"] = services["migrate"]["environment"]
    services["flower"]["environment"] = services["cpu"]["environment"]
    services["beat"]["environment"] = services["api"]["environment"]
    assert wrong_database_users(broken) == [
        "api: is longhand, not longhand_api",
        "beat: is longhand, not longhand_worker",
        "flower: is longhand_worker, not None",
    ]


def test_nothing_is_published_beyond_loopback(default: Compose, broken: Compose) -> None:
    assert exposed_ports(default) == []

    broken["services"]["api"]["ports"] = ["8000:8000"]
    broken["services"]["flower"]["ports"] = ["127.0.0.1:5555:5000"]
    assert exposed_ports(broken) == [
        "api: 8000:8000 is published beyond loopback",
        "flower: nothing listens on 5000",
    ]


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_to_start_without_secrets_of_ones_own(raw: Compose, missing: str) -> None:
    env = example_env() | dict.fromkeys(SECRETS, "secret") | {missing: ""}
    with pytest.raises(LookupError, match=f"{missing} is missing"):
        interpolated(raw, env)


def test_the_command_of_the_page_makes_secrets_of_ones_own(raw: Compose, tmp_path: Path) -> None:
    (command,) = re.findall(r"^python3 -c '.+$", (ROOT / "deploy/README.md").read_text(), re.M)
    shutil.copy(ROOT / ".env.example", tmp_path)
    subprocess.run(["sh", "-c", f"umask 077\n{command}"], cwd=tmp_path, check=True)
    made = env_of((tmp_path / ".env").read_text())
    assert len({made[name] for name in SECRETS}) == len(SECRETS)
    assert all(re.fullmatch("[0-9a-f]{32,}", made[name]) for name in SECRETS)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert wrong_addresses(interpolated(raw, made)) == []


def test_no_secret_is_on_a_command_line(raw: Compose) -> None:
    secrets = {name: f"secret-{name}" for name in SECRETS}
    compose = interpolated(raw, secrets)
    assert exposed_secrets(compose, secrets) == []

    compose["services"]["redis"]["command"] += ["--requirepass", secrets["REDIS_PASSWORD"]]
    assert exposed_secrets(compose, secrets) == ["redis: REDIS_PASSWORD"]


def test_every_container_is_confined(default: Compose, broken: Compose) -> None:
    assert unconfined(default) == []

    services = broken["services"]
    del services["api"]["mem_limit"], services["beat"]["cap_drop"]
    services["redis"]["read_only"] = False
    services["objects"]["cap_add"] = ["SYS_ADMIN"]
    assert set(unconfined(broken)) == {
        "api: mem_limit",
        "beat: cap_drop",
        "redis: read_only",
        "objects: fewer capabilities",
    }
