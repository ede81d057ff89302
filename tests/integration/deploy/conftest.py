"""docker-compose.yml and deploy/Dockerfile, whole and to be broken."""

import copy
import importlib
import importlib.util
import sys

import pytest
import yaml

from harness.deployment.compose_file import (
    SECRETS,
    Compose,
    HelpOf,
    interpolated,
)
from harness.deployment.dockerfile import (
    DOCKERFILE,
)
from harness.repository.tree import ROOT


@pytest.fixture(scope="module")
def raw() -> Compose:
    loaded: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
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
    return (ROOT / DOCKERFILE).read_text()


@pytest.fixture(scope="module")
def ignore() -> str:
    return (ROOT / ".dockerignore").read_text()
