"""The ``longhand`` command: its subcommands, and how every failure becomes one line."""

import io
import os
import sys
from contextlib import suppress

import click

from cli.commands.backup import backup, restore
from cli.commands.completion import completion
from cli.commands.doctor import doctor
from cli.commands.jobs import cancel, get, jobs, watch
from cli.commands.keys import keys
from cli.commands.listen import listen
from cli.commands.models import models
from cli.commands.search import search
from cli.commands.tenants import tenants
from cli.commands.transcribe import transcribe
from cli.commands.up import up
from cli.commands.webhooks import webhooks
from cli.commands.workers import workers
from cli.errors import CommandError, os_reason
from cli.messages import error as error_line
from shared import __version__
from shared.infra.errors import LonghandError


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
    epilog="Exit codes: 0 all done; 1 something failed, and a line on stderr says what; 2 wrong "
    "usage; 130 Ctrl-C.",
)
@click.version_option(__version__, message="longhand %(version)s")
def cli() -> None:
    """Longhand: speech to text on your own machines."""


for command in (
    *(transcribe, listen, up, models),
    *(jobs, get, watch, cancel, search, workers, webhooks),
    *(keys, tenants, doctor, backup, restore, completion),
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; the one place that turns failures into a line and an exit code."""
    code = _run(sys.argv[1:], can_print=_prepare_streams())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # The stream's reader is gone, perhaps with the terminal. The interpreter flushes once
            # more at its end, and a failure there would change the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _prepare_streams() -> bool:
    """Replace standard streams that were closed by /dev/null; return whether stdout was open.

    Python has no objects for closed streams, and the next file opened would get their descriptors.
    """
    can_print = sys.stdout is not None
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(os.dup(1), "w")
    sys.stderr = sys.stderr or os.fdopen(os.dup(2), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Files and pipes get UTF-8, as --output writes it; a terminal gets what it can show.
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="replace")
    return can_print


def _run(arguments: list[str], *, can_print: bool) -> int:
    from cli.signals import Stopped

    try:
        return int(
            cli.main(arguments, prog_name="longhand", standalone_mode=False, obj=can_print) or 0
        )
    except Stopped as stopped:
        return stopped.exit_code
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        help_wanted.show()
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "longhand"
        return _fail(f"{error.format_message().rstrip('.')} (see '{where} --help')", 2)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (CommandError, LonghandError) as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        return 1  # the reader of our output is gone
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{os_reason(error)}{where}", 1)


def _fail(sentence: str, code: int) -> int:
    with suppress(OSError):  # the reader of stderr may be gone with the terminal
        click.echo(error_line(sentence), err=True)
    return code


if __name__ == "__main__":
    main()
