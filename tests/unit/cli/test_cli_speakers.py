"""``--speakers [N]``: its number may be missing, also before a file."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.commands.options import GroupedCommand, OptionalNumber
from cli.main import cli
from cli.transcribe.request import Request


@click.command(cls=GroupedCommand)
@click.argument("files", nargs=-1)
@click.option("--speakers", cls=OptionalNumber, group="How")
def command(files: tuple[str, ...], speakers: int | bool | None) -> None:
    click.echo(f"{speakers!r} {' '.join(files)}".strip())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("a.wav", "None a.wav"),
        ("--speakers a.wav", "True a.wav"),
        ("a.wav --speakers", "True a.wav"),
        ("--speakers 2 a.wav", "2 a.wav"),
        ("--speakers=1 a.wav", "1 a.wav"),
        ("--speakers 0 a.wav", "0 a.wav"),
        ("-- --speakers", "None --speakers"),
    ],
)
def test_the_number_is_taken_where_there_is_one(given: str, told: str) -> None:
    result = CliRunner().invoke(command, given.split())
    assert result.output.strip() == told


def test_what_is_no_number_is_refused() -> None:
    result = CliRunner().invoke(command, ["--speakers=two"])
    assert result.exit_code == 2
    assert "two" in result.output


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ("", False),
        ("--speakers", True),
        ("--speakers 3", {"count": 3}),
        ("--speakers --identify", {"identify": True}),
        ("--speakers 3 --identify", {"count": 3, "identify": True}),
    ],
)
def test_what_is_asked_of_speakers_reaches_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, option: object
) -> None:
    asked: list[dict[str, Any]] = []

    def run(request: Request, _server: str | None, _data: Path) -> int:
        asked.append(request.members(request.options.model))
        return 0

    monkeypatch.setattr("cli.transcribe.run.transcribe", run)
    command = ["transcribe", "a.wav", "--data", str(tmp_path), *given.split()]
    assert CliRunner().invoke(cli, command, obj=True).exit_code == 0
    assert asked == [{} if option is False else {"speakers": option}]


def test_voices_are_known_of_speakers_alone(tmp_path: Path) -> None:
    command = ["transcribe", "a.wav", "--data", str(tmp_path), "--identify"]
    done = CliRunner().invoke(cli, command, obj=True)
    assert done.exit_code == 2
    assert "--identify goes with --speakers" in done.output
