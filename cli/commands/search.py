"""``longhand search``: where something was said, in all transcripts of a platform."""

from itertools import islice
from pathlib import Path

import click

from cli.commands.options import DATA, SERVER, data_path
from cli.messages import note, one_line


@click.command()
@click.argument("query", metavar="WORDS")
@click.option("--limit", type=click.IntRange(1), default=20, metavar="N", help="How many hits.")
@SERVER
@click.option("--data", **DATA)
def search(query: str, limit: int, server: str | None, data: Path | None) -> int:
    """Find what was said: words, "phrases" and beginnings*, all of which a segment must have.

    A hit is a line: the job's id, the file, when it was said, and the segment. The exit code is 1
    when there is none.
    """
    from cli.progress.figures import clock_time  # late: for the sake of --help
    from cli.running import running_platform

    found = False
    with running_platform(server, data_path(data)) as client:
        for hit in islice(client.search(query), limit):
            found = True
            click.echo(
                one_line(f"{hit.job_id}  {hit.source_name}  {clock_time(hit.start)}  {hit.text}")
            )
    if not found:
        click.echo(note("nothing found"), err=True)
    return 0 if found else 1
