"""Checks of docker-compose.yml against this tree; each returns what is wrong."""

import importlib.util
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import flower.urls
from pydantic import ValidationError
from tornado.web import URLSpec

import worker.process.health
from api.app import create_app
from harness.repository.tree import ROOT
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.catalogue import load_catalogue

SERVICES = {
    "postgres",
    "redis",
    "objects",
    "migrate",
    "weights",
    "api",
    "cpu",
    "deliver",
    "beat",
    "flower",
}


MODEL_SERVICES = {"model-cpu": "cpu", "model-gpu": "gpu"}
"""Each with the profile it is in."""


BINARIES = {
    "postgres": {"pg_isready"},
    "valkey/valkey": {"sh", "valkey-server", "valkey-cli"},
    "rclone/rclone": {"nc"},
    "longhand-server": {"python"},
    "longhand-gpu": {"python"},
    "longhand-torch": {"python"},
}
"""The programs in each image that the compose file may call."""


Compose = dict[str, Any]


Problems = list[str]


HelpOf = Callable[[str, list[str]], str | None]
"""Takes a module and a subcommand; returns what ``--help`` prints, None if there is no such one."""


VARIABLE = re.compile(
    r"(?<!\$)\$\{(?P<name>\w+)"
    r"(?::(?:-(?P<default>(?:[^{}]|\$\{[^{}]*\})*)|(?P<required>\?)))?\}"
)
"""One whose default may have other variables in it."""


SECRETS = {
    *("POSTGRES_PASSWORD", "API_DATABASE_PASSWORD", "WORKER_DATABASE_PASSWORD"),
    *("REDIS_PASSWORD", "S3_KEY", "S3_SECRET", "FLOWER_PASSWORD"),
}


OPTIONAL = {"MODELS", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"}
"""Variables that are empty by default."""


def interpolated(node: Any, env: Mapping[str, str]) -> Any:
    """Return the node with its variables replaced, as Compose does it.

    Raises:
        LookupError: a variable that must have a value has none; Compose refuses to start.
    """

    def value(found: re.Match[str]) -> str:
        given = env.get(found["name"])
        if found["required"] and not given:
            raise LookupError(f"required variable {found['name']} is missing a value")
        return given or VARIABLE.sub(value, found["default"] or "")

    if isinstance(node, str):
        return VARIABLE.sub(value, node).replace("$$", "$")
    if isinstance(node, dict):
        return {key: interpolated(value, env) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, env) for value in node]
    return node


def example_env() -> dict[str, str]:
    return env_of((ROOT / ".env.example").read_text())


def env_of(text: str) -> dict[str, str]:
    lines = text.splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def is_ours(service: Mapping[str, Any]) -> bool:
    return "build" in service


def words_of_test(service: Mapping[str, Any]) -> list[str]:
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD", "without a shell between"
    return list(words)


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
            case other:
                said = f"cannot tell what {other} does"
        if said:
            problems.append(f"{name}: {said}")
    return problems


def unknown_to_module(module: str, words: list[str], help_of: HelpOf) -> str | None:
    """Ask the subcommand itself for its options."""
    if importlib.util.find_spec(module) is None:
        return f"no module {module}"
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    first_option = next((at for at, word in enumerate(words) if word.startswith("--")), len(words))
    subcommand = words[:first_option]
    text = help_of(module, subcommand)
    if text is None:
        return f"python -m {module} has no subcommand {' '.join(subcommand)}"
    unknown = sorted(options - set(re.findall(r"--[a-z-]+", text)))
    return f"python -m {module} knows no {unknown}" if unknown else None


def unknown_settings(compose: Compose) -> Problems:
    """Return names and values that Settings refuses, and models that workers and jobs disagree on.

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
            catalogue = load_catalogue(settings.catalogue)
            model = catalogue.get(settings.default_model)
            named = service["command"][-1] if "--model" in service["command"] else model.id
            named = named.partition(",")[0]
            if named != model.id and named not in catalogue.diarizers:
                problems.append(f"{name}: works with {named}, jobs go to {model.id}")
    for url in buckets:
        Storage(url)
    return problems


def failing_healthchecks(compose: Compose) -> Problems:
    paths = {
        "api": set(create_app().openapi()["paths"]),
        "flower": flower_paths(),
        **{
            name: set(worker.process.health.PATHS)
            for name in ("cpu", "diarize", "deliver", "beat", *MODEL_SERVICES)
        },
    }
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
    """Return the paths that have no parameter. Tornado takes handlers as tuples and as URLSpecs."""
    patterns = (
        handler.regex.pattern.removesuffix("$") if isinstance(handler, URLSpec) else handler[0]
        for handler in flower.urls.handlers
    )
    return {pattern for pattern in patterns if "(" not in pattern}


def listening_port(service: Mapping[str, Any]) -> int:
    """Return the port in the command; without one, that of the worker's health endpoints."""
    if found := re.search(r"--port[= ](\d+)", " ".join(service["command"])):
        return int(found[1])
    return int(service["environment"]["LONGHAND_HEALTH_PORT"])


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
    sources = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
    }
    mounted = {source for source in sources if not source.startswith((".", "/"))}
    return [f"volume {name}" for name in sorted(mounted ^ compose["volumes"].keys())]
