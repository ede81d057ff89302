"""Commands for a platform that runs: what they say where there is nothing to show."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cli.main import cli


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
