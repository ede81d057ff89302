"""``longhand doctor``: look at a deployment from one of its machines."""

import click

from cli.messages import one_line


@click.command()
def doctor() -> int:
    """Look at a deployment: settings, servers, workers, models, clocks, room.

    It looks with the environment of a process of Longhand's (docs/settings.md), so run it where one
    runs, as that process' user. Nothing is changed: what it writes to see whether it can, it
    removes. It ends with 1 if something must be mended.
    """
    # Imported late, for the sake of --help.
    from cli.doctor import machine, servers, traces
    from cli.doctor.findings import Examination, Grade, findings
    from shared.infra.settings import get_settings

    settings = get_settings()
    parts: dict[str, Examination] = {
        machine.SETTINGS: machine.settings,
        machine.MACHINE: machine.machine,
        servers.POSTGRES: servers.postgres,
        servers.REDIS: servers.broker,
        servers.STORAGE: servers.storage,
        machine.MODELS: machine.models,
        servers.WORKERS: servers.workers,
        traces.TRACES: traces.traces,
    }
    worst = Grade.GOOD
    for part, examine in parts.items():
        for finding in findings(part, examine, settings):
            click.echo(one_line(f"{finding.grade:<8} {finding.part:<13} {finding.sentence}"))
            worst = Grade.BAD if finding.grade is Grade.BAD else worst
    return int(worst is Grade.BAD)
