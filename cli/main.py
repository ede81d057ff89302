"""The ``longhand`` command: what it accepts, and how every failure becomes one line."""

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.errors import CommandError, printable
from cli.options import FORMATS, PATH, SUBTITLES, Formats, GroupedCommand, TextFile, option
from cli.whisper_names import ALIASES, ignored, vad_of_filter, whisper_options
from shared import __version__
from shared.speech.vad_names import VAD_NAMES

if TYPE_CHECKING:
    from shared.models.options import JobOptions

_WRITE, _HOW, _WHERE, _MORE = "What is written", "How", "Where and how many", "Also"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all done; 1 something failed, and a line on stderr says what; 2 wrong "
    "usage; 130 Ctrl-C.",
)
@click.version_option(__version__, message="longhand %(version)s")
def cli() -> None:
    """Longhand: speech to text on your own machines."""


_DATA: dict[str, Any] = {
    "type": PATH,
    "envvar": "LONGHAND_DATA",
    "metavar": "DIR",
    "help": "Where the platform keeps its data.  [default: ~/.local/share/longhand]",
}


@cli.command(cls=GroupedCommand, epilog=ALIASES)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@option(
    _WRITE,
    "--format",
    "-f",
    "formats",
    aliases=("--output_format",),
    type=Formats(),
    multiple=True,
    metavar="LIST",
    help=f"Of {', '.join(FORMATS)}: one, several with commas, or 'all'.  [default: txt]",
)
@option(
    _WRITE,
    "--output",
    "-o",
    aliases=("--output_dir",),
    type=PATH,
    metavar="DIR",
    help="Write FILE's transcript to DIR/FILE.FORMAT instead of printing it.",
)
@option(
    _WRITE,
    "--skip-existing",
    is_flag=True,
    help="Leave out files whose transcripts are in DIR already.",
)
@option(
    _WRITE,
    "--max-line-width",
    aliases=("--max_line_width",),
    type=click.IntRange(10, 200),
    metavar="N",
    help="Characters of a subtitle's line.  [default: 42]",
)
@option(
    _WRITE,
    "--max-line-count",
    aliases=("--max_line_count",),
    type=click.IntRange(1, 4),
    metavar="N",
    help="Lines of a subtitle.  [default: 2]",
)
@option(
    _HOW,
    "--model",
    metavar="ID",
    help="As in 'longhand models'.  [default: auto: the model that the catalogue prefers for the "
    "stated language, if it is served (or usable, where no platform runs yet); else "
    "LONGHAND_DEFAULT_MODEL, if set; else a model that is served; else the best that is here; "
    "never one that lacks the language or what else is asked]",
)
@option(
    _HOW,
    "--language",
    metavar="NAME",
    help="Language of the speech: 'de', 'en-US', 'english'.  [default: detected]",
)
@option(
    _HOW,
    "--task",
    type=click.Choice(("transcribe", "translate")),
    default="transcribe",
    help="Write what is said, or its English translation.",
)
@option(_HOW, "--translate", is_flag=True, help="The same as --task translate.")
@option(
    _HOW,
    "--prompt",
    aliases=("--initial_prompt",),
    metavar="TEXT",
    help="Text in whose style and spelling to write.",
)
@option(_HOW, "--hotwords", metavar="WORDS", help="Words to expect, such as names.")
@option(
    _HOW,
    "--vad",
    type=click.Choice(VAD_NAMES),
    help="How speech is found.  [default: the model's own way]",
)
@option(_HOW, "--multichannel", is_flag=True, help="Transcribe each channel apart.")
@option(_HOW, "--multilingual", is_flag=True, help="Detect the language again and again.")
@option(
    _WHERE,
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="Use this running platform instead of starting one.",
)
@option(_WHERE, "--data", **_DATA)
@option(
    _WHERE,
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    metavar="N",
    help="Files under way at once.  [default: 4]",
)
@option(
    _WHERE,
    "--wait-for-worker",
    is_flag=True,
    help="If no worker serves the model, have the job wait for one.",
)
@option(_WHERE, "--no-cache", is_flag=True, help="Transcribe even what was transcribed before.")
@option(
    _MORE,
    "--reference",
    type=TextFile(),
    metavar="TEXTFILE",
    help="What was really said in FILE: tells the error rates.",
)
@option(_MORE, "--metadata", metavar="JSON", help="An object that is kept with the jobs.")
@click.option(
    "--vad_filter", "vad_of_filter", type=bool, hidden=True, callback=vad_of_filter, default=None
)
@whisper_options
@click.pass_context
def transcribe(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    formats: tuple[tuple[str, ...], ...],
    output: Path | None,
    skip_existing: bool,
    max_line_width: int | None,
    max_line_count: int | None,
    model: str | None,
    task: str,
    translate: bool,
    vad: str | None,
    vad_of_filter: str | None,
    server: str | None,
    data: Path | None,
    jobs: int,
    no_cache: bool,
    reference: str | None,
    **chosen: Any,
) -> int:
    """Transcribe audio and video files and print the transcripts.

    FILE is a file, a folder, whose audio and video files are taken, or '-', standard input.

    Uses the platform that 'longhand up' runs in the same data directory; where there is none,
    starts one, and stops it again. Files that fail do not keep the others from being done.
    """
    wanted = tuple(dict.fromkeys(name for several in formats for name in several)) or ("txt",)
    if output is None and len(wanted) > 1:
        raise click.UsageError("several formats go into a folder: name it by --output", ctx)
    if output is None and skip_existing:
        raise click.UsageError("--skip-existing looks into a folder: name it by --output", ctx)
    if (max_line_width or max_line_count) and not set(wanted) & set(SUBTITLES):
        raise click.UsageError("lines have a width in srt and vtt: choose one by --format", ctx)
    if output is None and not ctx.obj:
        raise CommandError("standard output is closed: name a folder by --output")
    options = _job_options(
        ctx,
        chosen
        | {
            "model": None if model is None else model.strip() or "auto",
            "task": "translate" if translate else task,
            "vad": vad or vad_of_filter,
            "cache": not no_cache,
        },
    )
    if reference is not None:
        _check_reference(ctx, reference)
    if line := ignored(ctx):
        click.echo(f"longhand: {line}", err=True)

    from cli.batch import Request
    from cli.transcribe import transcribe as run

    request = Request(
        files=files,
        options=options,
        formats=wanted,
        output=output,
        jobs=jobs,
        skip_existing=skip_existing,
        reference=reference,
        max_line_width=max_line_width,
        max_line_count=max_line_count,
    )
    return run(request, server, _data_path(data))


def _job_options(ctx: click.Context, chosen: dict[str, Any]) -> "JobOptions":
    """Return the options of the jobs.

    Raises:
        UsageError: one of them is wrong in itself, whatever the model.
    """
    from pydantic import ValidationError

    from shared.models.options import JobOptions

    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        return JobOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"--{first['loc'][0]}: {first['msg']}", ctx) from error


def _check_reference(ctx: click.Context, reference: str) -> None:
    from shared.infra.errors import InvalidRequest
    from shared.speech.accuracy import check_reference

    try:
        check_reference(reference)
    except InvalidRequest as error:
        raise click.UsageError(f"--reference: {error}", ctx) from error


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
@click.option("--data", **_DATA)
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
    code = _run(sys.argv[1:], can_print=_prepare_streams())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Whoever read it has gone, with the terminal perhaps: the interpreter's own last flush
            # must not change the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _prepare_streams() -> bool:
    """Put something in the place of standard streams that were closed; return if stdout was not.

    The next file opened would get their numbers otherwise, and Python has no objects for them.
    """
    can_print = sys.stdout is not None
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(os.dup(1), "w")
    sys.stderr = sys.stderr or os.fdopen(os.dup(2), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Files and pipes get UTF-8, as those of --output do; a terminal gets what it can show.
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="replace")
    return can_print


def _run(arguments: list[str], *, can_print: bool) -> int:
    from cli.embedded.signals import Stopped

    try:
        return int(
            cli.main(arguments, prog_name="longhand", standalone_mode=False, obj=can_print) or 0
        )
    except Stopped as stopped:
        return stopped.exit_code
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        help_wanted.show()
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "longhand"
        return _fail(f"{error.format_message().rstrip('.')} (see '{where} --help')", 2)
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
