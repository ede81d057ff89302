"""``longhand workers``: the workers of a platform that runs already."""

from pathlib import Path

import click

from cli.commands.options import DATA, SERVER, data_path
from cli.messages import error, one_line, warning


@click.command()
@SERVER
@click.option("--data", **DATA)
def workers(server: str | None, data: Path | None) -> int:
    """List the workers, their models and devices, and how much each has in hand.

    The exit code is 1 when one of them fails at everything of a kind, or there is none.
    """
    from cli.running import running_platform  # late: for the sake of --help

    with running_platform(server, data_path(data)) as client:
        found = client.workers()
    for worker in found:
        busy = len(worker.steps) + worker.other_steps
        click.echo(
            one_line(
                f"{worker.state:<10} {worker.role:<8} {worker.model or '':<20} {worker.device:<8} "
                f"{busy} of {worker.slots} in hand  {worker.id}"
            )
        )
        for sentence in worker.failing:
            click.echo(warning(f"{worker.id} is failing: {sentence}"), err=True)
    if not found:
        click.echo(error("there is no worker"), err=True)
    return 1 if not found or any(worker.failing for worker in found) else 0
