"""``longhand models``."""

import click


@click.command()
def models() -> int:
    """List the models, whether they can be used here and now, and which one 'auto' is."""
    from cli.models.listing import list_models  # late: for the sake of --help

    for line in list_models():
        click.echo(line)
    return 0
