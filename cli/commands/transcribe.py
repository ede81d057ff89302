"""``longhand transcribe``: its options, and which of them go together."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.commands.options import (
    DATA,
    PATH,
    Formats,
    GroupedCommand,
    TextFile,
    data_path,
    option,
)
from cli.commands.whisper_options import ALIASES, ignored, vad_of_filter, whisper_options
from cli.errors import CommandError
from cli.formats import FORMATS, SUBTITLES
from cli.messages import note

if TYPE_CHECKING:
    from shared.models.options import JobOptions

_WRITE, _HOW, _WHERE, _MORE = "What is written", "How", "Where and how many", "Also"


@click.command(cls=GroupedCommand, epilog=ALIASES)
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
    type=click.Choice(("silero", "energy", "off")),
    help="How speech is found.  [default: the model's own way]",
)
@option(_HOW, "--multichannel", is_flag=True, help="Transcribe each channel apart.")
@option(_HOW, "--multilingual", is_flag=True, help="Detect the language of each chunk.")
@option(
    _WHERE,
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="Use this running platform instead of starting one.",
)
@option(_WHERE, "--data", **DATA)
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
    "--priority",
    type=click.IntRange(-100, 100),
    default=0,
    metavar="N",
    help="Higher goes first: -100 to 100.  [default: 0]",
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
    priority: int,
    no_cache: bool,
    reference: str | None,
    **chosen: Any,
) -> int:
    """Transcribe audio and video files and print the transcripts.

    FILE is a file, a folder of audio and video files, or '-', standard input.

    Uses the platform that 'longhand up' runs in the same data directory, or starts one and stops it
    again. A file that fails does not keep the others from being transcribed.
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
        click.echo(note(line), err=True)

    # Imported late, for the sake of --help.
    from cli.transcribe.request import Request
    from cli.transcribe.run import transcribe as run

    request = Request(
        files=files,
        options=options,
        priority=priority,
        formats=wanted,
        output=output,
        jobs=jobs,
        skip_existing=skip_existing,
        reference=reference,
        max_line_width=max_line_width,
        max_line_count=max_line_count,
    )
    return run(request, server, data_path(data))


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
