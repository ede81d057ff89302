"""``longhand transcribe``: its options, and which of them go together."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.commands.options import (
    DATA,
    FILE,
    PATH,
    Formats,
    GroupedCommand,
    GroupedOption,
    OptionalNumber,
    ReferenceFile,
    data_path,
)
from cli.commands.whisper_options import (
    EPILOG,
    counterpart,
    ignored,
    vad_of_filter,
    whisper_options,
    without_flags_values,
)
from cli.errors import CommandError
from cli.messages import note
from shared.models import AUTO_RULE
from shared.speech.names import FORMATS, SUBTITLES, VAD_NAMES

if TYPE_CHECKING:
    from shared.models.options import JobOptions

_written = partial(click.option, cls=GroupedOption, group="What is written")
_how = partial(click.option, cls=GroupedOption, group="How")
_where = partial(click.option, cls=GroupedOption, group="Where and how many")
_also = partial(click.option, cls=GroupedOption, group="Also")


class _Transcribe(GroupedCommand):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, without_flags_values(args))


@click.command(
    cls=_Transcribe, epilog=EPILOG, context_settings={"token_normalize_func": counterpart}
)
@click.argument("files", metavar="FILE...", nargs=-1, type=FILE)
@_written(
    *("--format", "-f", "formats"),
    type=Formats(),
    multiple=True,
    metavar="LIST",
    show_default="txt",
    help=f"Of {', '.join(FORMATS)}: one, several with commas, or 'all'.",
)
@_written(
    *("--output", "-o"),
    type=PATH,
    metavar="DIR",
    help="Write FILE's transcript to DIR/FILE.FORMAT.",
)
@_written(
    "--skip-existing", is_flag=True, help="Leave out files whose transcripts are in DIR already."
)
@_written(
    "--max-line-width",
    type=click.IntRange(10, 200),
    metavar="N",
    show_default="42, CJK 32",
    help="Columns.",
)
@_written(
    "--max-line-count",
    type=click.IntRange(1, 4),
    metavar="N",
    show_default="2",
    help="Lines per subtitle.",
)
@_written(
    "--max-words-per-cue",
    type=click.IntRange(1, 100),
    metavar="N",
    show_default="as fit",
    help="Words per subtitle.",
)
@_how("--model", metavar="ID", show_default=f"auto: {AUTO_RULE}", help="As in 'longhand models'.")
@_how(
    "--language",
    metavar="NAME",
    show_default="detected",
    help="Spoken: 'de', 'en-US', 'english'.",
)
@_how(
    "--task",
    type=click.Choice(("transcribe", "translate")),
    metavar="TASK",
    default="transcribe",
    help="Or 'translate', into English.",
)
@_how("--translate", is_flag=True, help="The same as --task translate.")
@_how("--prompt", metavar="TEXT", help="Text in whose style and spelling to write.")
@_how("--hotwords", metavar="WORDS", help="Words to expect, such as names.")
@_how(
    "--vad",
    type=click.Choice(VAD_NAMES),
    metavar="VAD",
    show_default="model's",
    help=f"Finds speech: {', '.join(VAD_NAMES)}.",
)
@click.option(
    "--speakers",
    cls=OptionalNumber,
    group="How",
    help="Tell who says what; N: of so many people.",
)
@_how("--identify", is_flag=True, help="With --speakers: name those whose voices are known.")
@_how("--multichannel", is_flag=True, help="Transcribe each channel apart.")
@_how("--multilingual", is_flag=True, help="Detect the language of each chunk.")
@_how(
    "--track",
    metavar="TRACK",
    show_default="auto",
    help="Audio track: its number or language.",
)
@_how("--numerals", is_flag=True, help="Write English number words as digits.")
@_how("--mask", metavar="WORDS", help="Words to show as asterisks, separated by commas.")
@_how("--spelling", metavar="JSON", help="An object of words and how to write them.")
@_how("--strict", is_flag=True, help="Refuse a file that is cut off or damaged.")
@_where(
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="Use this running platform instead of starting one.",
)
@_where("--data", **DATA)
@_where(
    "--jobs", type=click.IntRange(1, 64), default=4, metavar="N", help="Files under way at once."
)
@_where(
    "--priority", type=click.IntRange(-100, 100), default=0, metavar="N", help="Higher goes first."
)
@_where(
    "--wait-for-worker",
    is_flag=True,
    help="If no worker serves the model, have the job wait for one.",
)
@_where("--no-cache", is_flag=True, help="Transcribe even what was transcribed before.")
@_also(
    "--reference",
    type=ReferenceFile(),
    metavar="TEXTFILE",
    help="What was really said in FILE: tells the error rates.",
)
@_also(
    "--watch-folder",
    type=PATH,
    metavar="FOLDER",
    help="Transcribe what comes into FOLDER.",
)
@_also("--metadata", metavar="JSON", help="An object that is kept with the jobs.")
@click.option("--vad_filter", "vad_of_filter", type=bool, hidden=True, callback=vad_of_filter)
@whisper_options
@click.pass_context
def transcribe(
    ctx: click.Context,
    /,
    files: tuple[Path | str, ...],
    formats: tuple[tuple[str, ...], ...],
    output: Path | None,
    skip_existing: bool,
    max_line_width: int | None,
    max_line_count: int | None,
    max_words_per_cue: int | None,
    model: str | None,
    task: str,
    translate: bool,
    vad: str | None,
    vad_of_filter: str | None,
    speakers: int | bool | None,
    identify: bool,
    server: str | None,
    data: Path | None,
    jobs: int,
    no_cache: bool,
    reference: str | None,
    watch_folder: Path | None,
    **others: Any,
) -> int:
    """Transcribe audio and video files and print the transcripts.

    FILE is a file, a folder of audio and video files, an http(s) URL, or '-'.

    Uses the platform that 'longhand up' runs in the same data directory, or starts one and stops it
    again. A file that fails does not stop the others.
    """
    wanted = tuple(dict.fromkeys(name for several in formats for name in several)) or ("txt",)
    sizes = {
        "max_line_width": max_line_width,
        "max_line_count": max_line_count,
        "max_words_per_cue": max_words_per_cue,
    }
    chosen_sizes = {name: str(size) for name, size in sizes.items() if size is not None}
    if watch_folder is None and not files:
        raise click.UsageError("Missing argument 'FILE...'", ctx)
    if watch_folder is not None:
        _check_watched(ctx, watch_folder, files, output, reference)
        files = (watch_folder,)
    if output is None and len(wanted) > 1:
        raise click.UsageError("several formats go into a folder: name it by --output", ctx)
    if output is None and skip_existing:
        raise click.UsageError("--skip-existing looks into a folder: name it by --output", ctx)
    if chosen_sizes and not set(wanted) & set(SUBTITLES):
        raise click.UsageError("subtitles have sizes: choose srt or vtt by --format", ctx)
    if output is None and "docx" in wanted:
        raise click.UsageError("docx is no text: name a folder for it by --output", ctx)
    if output is None and not ctx.obj:
        raise CommandError("standard output is closed: name a folder by --output")
    options = job_options(
        ctx,
        **others,
        model=None if model is None else model.strip() or "auto",
        task="translate" if translate else task,
        vad=vad or vad_of_filter,
        speakers=_speakers(speakers, identify=identify),
        cache=not no_cache,
    )
    if line := ignored(ctx):
        click.echo(note(line), err=True)

    # Imported late, for the sake of --help.
    from cli.transcribe.request import Request
    from cli.transcribe.run import transcribe as run
    from cli.transcribe.watched_folder import transcribe_arrivals

    request = Request(
        files=files,
        options=options,
        formats=wanted,
        output=output,
        sizes=chosen_sizes,
        jobs=jobs,
        skip_existing=skip_existing,
        reference=reference,
    )
    if watch_folder is not None:
        transcribe_arrivals(request, watch_folder, server, data_path(data))
    return run(request, server, data_path(data))


def _speakers(asked: int | bool | None, *, identify: bool) -> object:
    """Return the job option of ``--speakers [N]`` and ``--identify``."""
    if identify and asked is None:
        raise click.UsageError("--identify goes with --speakers")
    count = {"count": asked} if type(asked) is int else {}
    return count | ({"identify": True} if identify else {}) or asked


def _check_watched(
    ctx: click.Context,
    folder: Path,
    files: tuple[Path | str, ...],
    output: Path | None,
    reference: str | None,
) -> None:
    if files:
        raise click.UsageError("--watch-folder takes the place of FILE", ctx)
    if not folder.is_dir():
        raise click.UsageError(f"--watch-folder: {folder} is not a folder", ctx)
    if output is None:
        raise click.UsageError("--watch-folder: name a folder for transcripts by --output", ctx)
    if reference is not None:
        raise click.UsageError("--reference goes with one file", ctx)


def job_options(ctx: click.Context, **chosen: Any) -> "JobOptions":
    """Return the options of the jobs; a UsageError says which is wrong, whatever the model."""
    from pydantic import ValidationError

    from shared.models.options import JobOptions

    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        return JobOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise click.UsageError(f"--{first['loc'][0]}: {first['msg']}", ctx) from error
