"""The ``longhand`` command: what it accepts, and how every failure becomes one line."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from cli.errors import CommandError, printable
from shared import __version__

FORMATS = ("txt", "json", "srt", "vtt", "tsv")


class _Path(click.Path):
    """A path; not the empty one that an unset shell variable leaves, which would mean '.'."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


_PATH = _Path(path_type=Path)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all done; 1 something failed, and a line on stderr says what; 2 wrong "
    "usage; 130 Ctrl-C.",
)
@click.version_option(__version__, message="longhand %(version)s")
def cli() -> None:
    """Longhand: speech to text on your own machines."""


_data_option = click.option(
    "--data",
    type=_PATH,
    envvar="LONGHAND_DATA",
    metavar="DIR",
    help="Where the platform keeps its data.  [default: ~/.local/share/longhand]",
)


@cli.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=_PATH)
@click.option(
    "--model",
    metavar="ID",
    help="Model to use, see 'longhand models'.  [default: auto: the model that the catalogue "
    "prefers for the stated language, if it is served (or usable, where no platform runs yet); "
    "else LONGHAND_DEFAULT_MODEL, if set; else a model that is served; else the best that is here; "
    "never one that lacks the language or what else is asked]",
)
@click.option(
    "--language", metavar="xx", help="Language of the speech, as in 'de'.  [default: detected]"
)
@click.option(
    "--task",
    type=click.Choice(("transcribe", "translate")),
    default="transcribe",
    show_default=True,
    help="Write what is said, or its English translation, by models that can.",
)
@click.option("--translate", is_flag=True, help="The same as --task translate.")
@click.option("--prompt", metavar="TEXT", help="Text in whose style and spelling to write.")
@click.option("--hotwords", metavar="WORDS", help="Words to expect, such as names.")
@click.option("--multichannel", is_flag=True, help="Transcribe each channel apart.")
@click.option("--multilingual", is_flag=True, help="Detect the language again and again.")
@click.option(
    "--no-cache", is_flag=True, help="Transcribe even what the platform has transcribed before."
)
@click.option(
    "--wait-for-worker",
    is_flag=True,
    help="If no worker serves the model, have the job wait for one.",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="txt", show_default=True)
@click.option(
    "--output",
    type=_PATH,
    metavar="DIR",
    help="Write FILE's transcript to DIR/FILE.FORMAT instead of printing it.",
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
    task: str,
    translate: bool,
    prompt: str | None,
    hotwords: str | None,
    multichannel: bool,
    multilingual: bool,
    no_cache: bool,
    wait_for_worker: bool,
    form: str,
    output: Path | None,
    server: str | None,
    data: Path | None,
) -> int:
    """Transcribe audio and video files and print the transcripts.

    Uses the platform that 'longhand up' runs in the same data directory; where there is none,
    starts one, and stops it again. Files that fail do not keep the others from being done.
    """
    from cli.transcribe import Request
    from cli.transcribe import transcribe as run
    from shared.options import JobOptions

    options = JobOptions.model_construct(
        model=model,
        language=language,
        task="translate" if translate else task,
        prompt=prompt,
        hotwords=hotwords,
        multichannel=multichannel,
        multilingual=multilingual,
        cache=not no_cache,
        wait_for_worker=wait_for_worker,
    )
    return run(Request(files, options, form, output), server, _data_path(data))


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="N",
    help="The API's port on 127.0.0.1; 0 takes any free one.  [default: 8000]",
)
@click.option(
    "--model",
    "models",
    metavar="ID",
    multiple=True,
    help="Model to serve; repeatable, the first is the default.  [default: auto]",
)
@click.option("--flower", is_flag=True, help="Also start Flower, Celery's monitor.")
@click.option(
    "--flower-port",
    type=click.IntRange(1, 65535),
    default=5555,
    metavar="N",
    help="Flower's port on 127.0.0.1.  [default: 5555]",
)
@_data_option
def up(
    port: int, models: tuple[str, ...], flower: bool, flower_port: int, data: Path | None
) -> int:
    """Keep the platform running in the foreground until Ctrl-C.

    Once all parts are up, the last line on stdout is 'ready URL'.
    """
    from cli.up import up as run

    return run(
        port=port,
        data=_data_path(data),
        models=models,
        flower_port=flower_port if flower else None,
    )


@cli.command()
def models() -> int:
    """List the models, whether they can be used here and now, and which one 'auto' is."""
    from cli.models import list_models

    for line in list_models():
        click.echo(line)
    return 0


def _data_path(chosen: Path | None) -> Path:
    from cli.embedded.directory import default_path

    return chosen.expanduser().absolute() if chosen else default_path()


def main() -> None:
    """Run the command line; the one place that turns failures into a line and an exit code."""
    code = _run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Whoever read it has gone, with the terminal perhaps: the interpreter's own last flush
            # must not change the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


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
        return 1  # whoever read our output has gone
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", 1)


def _fail(message: str, code: int) -> int:
    # Its reader may be gone with the terminal; the exit code still tells.
    try:
        click.echo(printable(f"longhand: error: {message}"), err=True)
    except OSError:
        return code
    return code


if __name__ == "__main__":
    main()
