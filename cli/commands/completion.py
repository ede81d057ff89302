"""``longhand completion``: what a shell needs to complete this command's words."""

import click
from click.shell_completion import get_completion_class

from cli.errors import CommandError


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print a script that has SHELL complete commands and options.

    \b
      eval "$(./longhand completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(f"there is no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "longhand", "_LONGHAND_COMPLETE").source())
