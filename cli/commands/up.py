"""``longhand up``: the embedded stack in the foreground."""

from contextlib import suppress
from pathlib import Path

import click

from cli.commands.options import DATA, data_path
from cli.messages import note


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="N",
    help="The API's port; 0 takes any free one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="The API's address; on any but a loopback address requests need an API key.",
)
@click.option(
    "--model",
    "models",
    metavar="ID",
    multiple=True,
    show_default="auto",
    help="Model to serve; repeatable, the first is the default.",
)
@click.option("--flower", is_flag=True, help="Also start Flower, Celery's monitor.")
@click.option(
    "--flower-port",
    type=click.IntRange(1, 65535),
    default=5555,
    metavar="N",
    help="Flower's port on 127.0.0.1.",
)
@click.option("--data", **DATA)
def up(
    port: int,
    host: str,
    models: tuple[str, ...],
    flower: bool,
    flower_port: int,
    data: Path | None,
) -> int:
    """Keep the platform running in the foreground until Ctrl-C.

    Once all parts are up, the last line on stdout is 'ready URL'. Where requests need a key and
    there is none yet, an administrator's is made; the line before has it, this once.
    """
    # Imported late, for the sake of --help.
    from cli.embedded.directory import DataDirectory, DirectoryInUse
    from cli.embedded.stack import Plan, running_stack
    from cli.local_models import diarization_here, prepare_model
    from cli.progress.lines import Progress, progress_on_stderr
    from cli.signals import StopFlag, Stopped
    from shared.infra.settings import FLOWER_USER, get_settings
    from shared.models.options import JobOptions

    get_settings().asks_for_keys(host)  # a forbidden address is told before anything is downloaded
    flag = StopFlag()
    progress = Progress()
    path = data_path(data)

    def say(sentence: str) -> None:
        progress.say(note(sentence))

    with flag.installed(), suppress(Stopped):
        directory = DataDirectory(path)
        directory.create()
        if directory.owner() is not None:  # told before anything is downloaded
            raise DirectoryInUse(path)
        with progress_on_stderr() as bars:
            wanted = [JobOptions(model=model) for model in models or (None,)]
            chosen = [prepare_model(options, flag, bars).id for options in wanted]
        served = tuple(dict.fromkeys(chosen))
        diarization = diarization_here()
        plan = Plan(
            served, diarization, port=port, host=host, flower_port=flower_port if flower else None
        )
        with running_stack(directory, plan, flag, say) as stack:
            for program in stack.programs:
                click.echo(f"{program.name:<24} {program.address or 'running'}")
            if stack.first_key is not None:
                click.echo(f"administrator's key      {stack.first_key}")
                say("the key is not shown again; 'longhand keys create' makes more")
            if flower:
                click.echo(
                    f"Flower lets in {FLOWER_USER} with the password in {stack.flower_secret}"
                )
            click.echo(f"ready {stack.api_url}")
            stack.run()
    return 0
