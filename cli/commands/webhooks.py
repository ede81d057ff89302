"""``longhand webhooks``: who is told of jobs' ends."""

from itertools import islice
from pathlib import Path

import click

from cli.commands.options import DATA, SERVER, data_path
from cli.errors import CommandError
from cli.messages import note, one_line

EVENTS = ("job.succeeded", "job.failed", "job.canceled", "batch.completed")


@click.group()
def webhooks() -> None:
    """Add, list, test and remove webhooks, and see what was delivered."""


@webhooks.command()
@click.argument("url", metavar="URL")
@click.option(
    "--event",
    "events",
    type=click.Choice(EVENTS),
    multiple=True,
    show_default="all",
    help="What to tell; repeatable.",
)
@click.option("--description", default="", metavar="TEXT", help="What it is for; for people.")
@SERVER
@click.option("--data", **DATA)
def add(
    url: str, events: tuple[str, ...], description: str, server: str | None, data: Path | None
) -> None:
    """Add a webhook, and print its secret, this once."""
    from cli.running import running_platform  # late: for the sake of --help

    chosen = {"events": list(events)} if events else {}
    with running_platform(server, data_path(data)) as client:
        made = client.webhooks.create(url, description=description, **chosen)
    click.echo(made.secret)
    click.echo(note(f"webhook {made.id}; the secret is not shown again"), err=True)


@webhooks.command("list")
@SERVER
@click.option("--data", **DATA)
def show(server: str | None, data: Path | None) -> None:
    """List the webhooks."""
    from cli.running import running_platform

    with running_platform(server, data_path(data)) as client:
        for each in client.webhooks.list():
            state = "enabled" if each.enabled else f"disabled: {each.disabled_reason or 'by you'}"
            events = ",".join(each.events)
            click.echo(one_line(f"{each.id}  {each.url}  {state}  {events}  {each.description}"))


@webhooks.command()
@click.argument("webhook_id", metavar="ID", type=click.UUID)
@SERVER
@click.option("--data", **DATA)
def test(webhook_id: object, server: str | None, data: Path | None) -> None:
    """Send a test event now, and tell how that went."""
    from cli.running import running_platform

    with running_platform(server, data_path(data)) as client:
        result = client.webhooks.test(str(webhook_id))
    if not result.delivered:
        raise CommandError(f"not delivered: {result.error}")
    click.echo(note(f"delivered: {result.status_code} in {result.latency_ms:.0f} ms"), err=True)


@webhooks.command()
@click.argument("webhook_id", metavar="ID", type=click.UUID)
@SERVER
@click.option("--data", **DATA)
def rotate(webhook_id: object, server: str | None, data: Path | None) -> None:
    """Replace a webhook's secret, and print the new one; the old one signs too for 24 hours."""
    from cli.running import running_platform

    with running_platform(server, data_path(data)) as client:
        click.echo(client.webhooks.rotate(str(webhook_id)).secret)


@webhooks.command()
@click.argument("webhook_id", metavar="ID", type=click.UUID)
@SERVER
@click.option("--data", **DATA)
def remove(webhook_id: object, server: str | None, data: Path | None) -> None:
    """Remove a webhook; what is pending is not sent."""
    from cli.running import running_platform

    with running_platform(server, data_path(data)) as client:
        client.webhooks.delete(str(webhook_id))


@webhooks.command()
@click.option("--job", metavar="JOB_ID", help="Of this job alone.")
@click.option("--limit", type=click.IntRange(1), default=20, metavar="N", help="The newest.")
@SERVER
@click.option("--data", **DATA)
def deliveries(job: str | None, limit: int, server: str | None, data: Path | None) -> None:
    """List what was sent to whom, the newest first."""
    from cli.running import running_platform

    filters = {} if job is None else {"job_id": job}
    with running_platform(server, data_path(data)) as client:
        for each in islice(client.webhooks.deliveries(**filters), limit):
            tries = f"{len(each.attempts)} attempts"
            why = (
                f"  ({each.attempts[-1].error})"
                if each.attempts and each.attempts[-1].error
                else ""
            )
            click.echo(
                one_line(f"{each.id}  {each.state:<9} {each.event.type}  {each.url}  {tries}{why}")
            )
