"""Checks of who reaches what by docker-compose.yml, and as whom; each returns what is wrong."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from harness.deployment.compose_file import (
    MODEL_SERVICES,
    Compose,
    Problems,
    listening_port,
    words_of_test,
)
from shared.infra.settings import API_ROLE, WORKER_ROLE

OWNER = "longhand"
"""Of the tables."""


DATABASE_USERS = {
    "migrate": OWNER,
    "api": API_ROLE,
    **dict.fromkeys(("cpu", "diarize", "deliver", "beat", *MODEL_SERVICES), WORKER_ROLE),
}
"""As whom each service uses Postgres; the others do not."""


def wrong_addresses(compose: Compose) -> Problems:
    """Return URLs whose host is no service, or whose password is not that service's."""
    services = compose["services"]
    s3_key, s3_secret = services["objects"]["environment"]["RCLONE_AUTH_KEY"].strip('"').split(",")
    migration = services["migrate"]["environment"]
    secrets = {
        ("postgres", OWNER): services["postgres"]["environment"]["POSTGRES_PASSWORD"],
        ("postgres", API_ROLE): migration["LONGHAND_API_DATABASE_PASSWORD"],
        ("postgres", WORKER_ROLE): migration["LONGHAND_WORKER_DATABASE_PASSWORD"],
        ("redis", ""): services["redis"]["environment"]["REDISCLI_AUTH"],
        ("objects", s3_key): s3_secret,
    }
    problems = []
    for name, service in services.items():
        for url in urls_of(service):
            if url.hostname not in {host for host, _ in secrets}:
                problems.append(f"{name}: {url.hostname} is not a server here")
            elif unquote(url.password or "") != secrets.get((url.hostname, url.username or "")):
                problems.append(f"{name}: wrong password for {url.hostname}")
    return problems


def wrong_database_users(compose: Compose) -> Problems:
    """Return services that use Postgres as anybody but the role with the least rights for them."""
    users = {
        name: url.username
        for name, service in compose["services"].items()
        for url in urls_of(service)
        if url.hostname == "postgres"
    }
    return [
        f"{name}: is {users.get(name)}, not {DATABASE_USERS.get(name)}"
        for name in compose["services"]
        if users.get(name) != DATABASE_USERS.get(name)
    ]


def urls_of(service: Mapping[str, Any]) -> Iterator[SplitResult]:
    for variable, value in service.get("environment", {}).items():
        if variable.startswith("LONGHAND_") and variable.endswith("_URL"):
            yield urlsplit(value)


def exposed_ports(compose: Compose) -> Problems:
    """Return ports published beyond loopback, or mapped to one that nobody listens on."""
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


def unconfined(compose: Compose) -> Problems:
    """Return services that have more rights than they need, or may use all of the host."""
    problems = []
    for name, service in compose["services"].items():
        missing = [limit for limit in ("mem_limit", "pids_limit") if limit not in service]
        if service.get("cap_drop") != ["ALL"]:
            missing.append("cap_drop")
        if service.get("security_opt") != ["no-new-privileges:true"]:
            missing.append("security_opt")
        if not service.get("read_only") or service.get("privileged"):
            missing.append("read_only")
        if service.get("cap_add") and name != "postgres":
            missing.append("fewer capabilities")
        problems += [f"{name}: {each}" for each in missing]
    return problems


def exposed_secrets(compose: Compose, secrets: Mapping[str, str]) -> Problems:
    """Return secrets on command lines, which every user of the host can read."""
    return [
        f"{name}: {secret}"
        for name, service in compose["services"].items()
        for secret, value in secrets.items()
        if value in " ".join([*service.get("command", ()), *words_of_health(service)])
    ]


def words_of_health(service: Mapping[str, Any]) -> list[str]:
    return words_of_test(service) if "healthcheck" in service else []
