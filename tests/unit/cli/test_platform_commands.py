"""Commands for a platform that runs: what they say where there is nothing to show."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from longhand_sdk import AsyncLonghand, Longhand

from cli.errors import CommandError
from cli.main import cli
from cli.server import made


@pytest.mark.parametrize("command", ["get", "watch", "cancel"])
def test_an_empty_id_is_wrong_usage(command: str) -> None:
    done = CliRunner().invoke(cli, [command, ""])
    assert done.exit_code == 2
    assert "the id is empty" in done.output


def test_a_platform_without_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def platform(server: str | None, data: Path) -> Iterator[SimpleNamespace]:
        del server, data
        yield SimpleNamespace(workers=tuple)

    monkeypatch.setattr("cli.running.running_platform", platform)
    done = CliRunner().invoke(cli, ["workers"], standalone_mode=False)
    assert (done.return_value, done.stderr) == (1, "longhand: error: there is no worker\n")


@pytest.mark.parametrize("kind", [Longhand, AsyncLonghand])
@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LONGHAND_API_KEY", "lh_live_é", "the API key has characters that no key has"),
        ("HTTP_PROXY", "socks5://127.0.0.1:1", "SOCKS proxies"),
    ],
)
def test_what_the_environment_has_wrong_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, kind: Any, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CommandError, match=sentence):
        made(kind, "http://longhand.invalid")
