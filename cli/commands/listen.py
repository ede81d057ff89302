"""``longhand listen``: live audio becomes lines of text."""

from pathlib import Path

import click

from cli.commands.options import DATA, PATH, data_path
from cli.errors import CommandError


@click.command()
@click.argument("file", metavar="FILE", type=PATH)
@click.option("--model", metavar="ID", show_default="auto", help="As in 'longhand models'.")
@click.option(
    "--language", metavar="NAME", show_default="detected", help="Spoken: 'de', 'en-US', 'english'."
)
@click.option(
    "--server",
    envvar="LONGHAND_SERVER",
    metavar="URL",
    help="Use this running platform instead of starting one.",
)
@click.option("--data", **DATA)
@click.pass_context
def listen(
    ctx: click.Context,
    /,
    file: Path,
    model: str | None,
    language: str | None,
    server: str | None,
    data: Path | None,
) -> None:
    """Transcribe while somebody speaks, and print each utterance as it ends.

    FILE is a WAV file, which is heard at the pace of its speech, or '-': raw PCM on standard input
    (16-bit little-endian, mono, 16 kHz), such as a microphone's:

    \b
      arecord -q -f S16_LE -r 16000 -t raw | longhand listen -

    A terminal also shows what is being said. Ctrl-C ends the session; what was said until then is
    still printed.
    """
    from cli.commands.transcribe import job_options

    if not ctx.obj:
        raise CommandError("standard output is closed")
    options = job_options(ctx, model=model, language=language)

    # Imported late, for the sake of --help.
    from cli.listen.run import listen as run

    run(file, options, server, data_path(data))
