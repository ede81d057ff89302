"""``longhand jobs``, ``get``, ``watch`` and ``cancel``: jobs of a platform that runs already."""

import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.commands.options import DATA, SERVER, Formats, Id, data_path
from cli.errors import CommandError
from cli.messages import error, note, one_line
from shared.speech.names import FORMATS

if TYPE_CHECKING:
    from longhand_sdk import JobInfo

STATES = ("queued", "running", "succeeded", "failed", "canceled")


@click.command()
@click.option(
    "--state", "states", type=click.Choice(STATES), multiple=True, help="In this state; repeatable."
)
@click.option("--model", metavar="ID", help="For this model.")
@click.option("--language", metavar="NAME", help="In this language, given or detected.")
@click.option(
    "--metadata", metavar="KEY=VALUE", multiple=True, help="With this metadata; repeatable."
)
@click.option(
    "--limit", type=click.IntRange(1), default=20, metavar="N", help="How many, the newest first."
)
@SERVER
@click.option("--data", **DATA)
def jobs(
    states: tuple[str, ...],
    model: str | None,
    language: str | None,
    metadata: tuple[str, ...],
    limit: int,
    server: str | None,
    data: Path | None,
) -> None:
    """List jobs, the newest first: id, state, when it came, length, model and file."""
    from cli.running import running_platform  # late: for the sake of --help

    given: dict[str, Any] = {
        "state": list(states),
        "model": model,
        "language": language,
        "metadata": list(metadata),
    }
    filters = {name: value for name, value in given.items() if value}
    with running_platform(server, data_path(data)) as client:
        for job in islice(client.jobs.list(**filters), limit):
            click.echo(_line(job.info))


def _line(job: "JobInfo") -> str:
    from cli.progress.figures import duration

    state = str(job.state)
    if job.state == "running" and job.progress.percent is not None:
        state = f"running {int(job.progress.percent)} %"
    came = "" if job.created_at is None else f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
    length = "" if job.duration_s is None else duration(job.duration_s)
    why = f"  ({job.error.detail})" if job.error is not None else ""
    return one_line(
        f"{job.id}  {state:<12} {came:<16} {length:>8}  {job.model:<20} {job.source.name}{why}"
    )


@click.command()
@click.argument("job_id", metavar="JOB_ID", type=Id())
@click.option(
    *("--format", "-f", "formats"),
    type=Formats(),
    default="txt",
    metavar="FORMAT",
    help=f"One of {', '.join(FORMATS)}.",
)
@click.option(
    *("--partial", "is_partial"),
    is_flag=True,
    help="What is transcribed so far, of a job that has not succeeded.",
)
@click.option("--original", is_flag=True, help="Without numerals, mask and spelling.")
@SERVER
@click.option("--data", **DATA)
@click.pass_context
def get(
    ctx: click.Context,
    /,
    job_id: str,
    formats: tuple[str, ...],
    is_partial: bool,
    original: bool,
    server: str | None,
    data: Path | None,
) -> None:
    """Print the transcript of a job."""
    from cli.running import running_platform

    if len(formats) != 1:
        raise click.UsageError("a transcript is printed in one format", ctx)
    if not ctx.obj:
        raise CommandError("standard output is closed")
    (form,) = formats
    if form == "docx" and sys.stdout.isatty():
        raise click.UsageError("docx is no text: redirect it into a file", ctx)
    query = {"partial": is_partial, "original": original}
    params = {name: "true" for name, value in query.items() if value}
    with running_platform(server, data_path(data)) as client:
        found = client.jobs.get(job_id, text=False).export(form, **params)
    if form == "docx":
        sys.stdout.buffer.write(found)
    else:
        click.echo(found.decode(), nl=not found.endswith(b"\n"))


@click.command()
@click.argument("job_id", metavar="JOB_ID", type=Id())
@SERVER
@click.option("--data", **DATA)
def watch(job_id: str, server: str | None, data: Path | None) -> int:
    """Follow a job to its end, and print what each finished chunk says.

    Chunks end in any order; 'longhand get' prints the transcript. The exit code is 0 when the job
    has succeeded. Ctrl-C ends the watching, not the job.
    """
    from longhand_sdk import ProgressEvent, SegmentsEvent, StateEvent

    from cli.progress.figures import clock_time
    from cli.progress.lines import progress_on_stderr
    from cli.running import running_platform
    from cli.transcribe.file_jobs import show_progress
    from cli.transcribe.streams import print_text

    succeeded = False
    with running_platform(server, data_path(data)) as client, progress_on_stderr() as progress:
        job = client.jobs.get(job_id, text=False)
        name = one_line(job.info.source.name)
        for event in job.events():
            match event:
                case ProgressEvent():
                    show_progress(progress, name, event, event.waiting_for, job.state)
                case SegmentsEvent():
                    text = " ".join(segment.text for segment in event.segments)
                    line = one_line(f"{clock_time(event.start)}  {text}")
                    progress.aside(partial(print_text, line))
                case StateEvent() if event.state in ("succeeded", "failed", "canceled"):
                    succeeded = event.state == "succeeded"
                    progress.leave(name, event.state, event.error.detail if event.error else "")
    return 0 if succeeded else 1


@click.command()
@click.argument("job_ids", metavar="JOB_ID...", type=Id(), nargs=-1, required=True)
@SERVER
@click.option("--data", **DATA)
def cancel(job_ids: tuple[str, ...], server: str | None, data: Path | None) -> int:
    """Stop jobs: at once if they wait, within a chunk if they run.

    'longhand get --partial' prints what they have said so far.
    """
    from longhand_sdk.errors import JobEnded, JobNotFound

    from cli.running import running_platform

    n_failed = 0
    with running_platform(server, data_path(data)) as client:
        for job_id in job_ids:
            try:
                line = note(f"{job_id}: {client.jobs.get(job_id, text=False).cancel().state}")
            except (JobEnded, JobNotFound) as problem:  # it must not keep the others running
                line, n_failed = error(f"{job_id}: {problem}"), n_failed + 1
            click.echo(line, err=True)
    return 1 if n_failed else 0
