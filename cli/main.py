"""The ``longhand`` command: what it accepts, and how every failure becomes one line."""

import os
import sys
from pathlib import Path

import click

from cli.errors import CommandError

FORMATS = ("txt", "json", "srt", "vtt", "tsv")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Longhand: speech to text on your own machines."""


_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="LONGHAND_DATA",
    metavar="DIR",
    help="Where the platform keeps its data.  [default: ~/.local/share/longhand]",
)


@cli.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option("--model", metavar="ID", help="Model to use; 'auto' picks the best usable one.")
@click.option("--language", metavar="xx", help="Language of the speech (ISO 639-1).")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="txt", show_default=True, help="Output."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write NAME.FORMAT files there instead of printing.",
)
@click.option(
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="Use this running platform instead of starting one.",
)
@_data_option
def transcribe(
    files: tuple[Path, ...],
    model: str | None,
    language: str | None,
    form: str,
    output: Path | None,
    server: str | None,
    data: Path | None,
) -> int:
    """Transcribe audio files and print the transcripts."""
    from cli.transcribe import Request
    from cli.transcribe import transcribe as run

    return run(Request(files, model, language, form, output), server, _data_path(data))


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--model", "models", metavar="ID", multiple=True, help="Model to serve; repeatable.")
@click.option("--flower", is_flag=True, help="Also start Flower, Celery's monitor.")
@_data_option
def up(port: int, models: tuple[str, ...], flower: bool, data: Path | None) -> int:
    """Keep the platform running in the foreground."""
    from cli.up import up as run

    return run(port=port, data=_data_path(data), models=models, flower=flower)


@cli.command()
def models() -> int:
    """List the models and whether they can be used here and now."""
    from cli.models import availability, hub_probe, offered_models

    probe = hub_probe()
    for model in offered_models():
        found = availability(model, probe)
        click.echo(f"{model.id:<24} {'yes' if found.usable else 'no':<4} {found.reason}")
        click.echo(f"{'':<29} {model.description}")
    return 0


def _data_path(chosen: Path | None) -> Path:
    from cli.embedded.directory import default_path

    return chosen.expanduser().absolute() if chosen else default_path()


def main() -> None:
    """Run the command line; the one place that turns failures into a line and an exit code."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    from cli.embedded.signals import Stopped

    try:
        return int(cli.main(arguments, prog_name="longhand", standalone_mode=False) or 0)
    except Stopped as stopped:
        return stopped.exit_code
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        help_wanted.show()
        return 2
    except click.UsageError as error:
        return _fail(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except CommandError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        # Whoever read our output has gone; do not fail again while flushing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", 1)


def _fail(message: str, code: int) -> int:
    # Its reader may be gone with the terminal; the exit code still tells.
    try:
        click.echo(f"longhand: error: {message}", err=True)
    except OSError:
        return code
    return code


if __name__ == "__main__":
    main()
