"""``--speakers [N]``: its number may be missing, also before a file."""

import click
import pytest
from click.testing import CliRunner

from cli.commands.options import GroupedCommand, OptionalNumber


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
