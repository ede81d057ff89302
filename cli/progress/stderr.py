"""Which kind of progress stderr gets."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cli.progress.plain import PlainProgress
from cli.progress.protocol import Progress


@contextmanager
def progress_on_stderr() -> Iterator[Progress]:
    """Yield progress for stderr: a moving block on a terminal that can move its cursor, else lines.

    The block is gone when the with-statement ends.
    """
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    # Imported late: rich takes a tenth of a second, which logs and pipes need not wait for.
    from rich.console import Console

    from cli.progress.terminal import TerminalProgress

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield PlainProgress()
        return
    progress = TerminalProgress(console)
    try:
        yield progress
    finally:
        progress.finish()
