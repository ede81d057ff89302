"""The platform that a batch goes to: the one named, the one that runs here, or one of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.embedded.directory import DataDirectory
from cli.embedded.stack import Plan, running_stack
from cli.local_models import prepare_diarization, prepare_model
from cli.messages import note
from cli.progress.lines import Progress
from cli.signals import StopFlag
from shared.models.options import JobOptions

DRAIN_S = 1.0
"""Grace of the workers when the command's own platform stops. By then all its jobs have ended or
were given up, so nothing is lost."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform to submit to."""

    url: str
    model: str | None
    """The model to ask for; None: it chooses."""
    run: Callable[[Callable[[], bool]], None]
    """Waits in the main thread until its argument returns true, and looks after a platform of our
    own. Raises ``Stopped`` when a signal comes first."""
    lasting: bool = True
    """Whether it runs on afterwards, so that a failed job can be retried."""
    logs: Path | None = None
    """The folder of its logs, if that is on this machine."""


@contextmanager
def platform_for(
    options: JobOptions,
    server: str | None,
    data: Path,
    *,
    size_bytes: int,
    flag: StopFlag,
    progress: Progress,
) -> Iterator[Platform]:
    """Yield the platform at ``server``, the one that runs in ``data``, or one started there.

    One started here serves the model that the options want. The directory must have room for files
    of ``size_bytes`` in all.

    Raises:
        CommandError: our own cannot be started.
        Stopped: a signal came.
    """
    if server is not None:
        yield Platform(server, options.model, flag.wait_until)
        return
    directory = DataDirectory(data)
    directory.create(for_files_bytes=size_bytes)
    told = False
    while (owner := directory.owner()) is not None:
        if owner.purpose == "up":
            progress.say(note(f"using the platform that runs at {owner.api_url}"))
            yield Platform(owner.api_url, options.model, flag.wait_until, logs=directory.logs)
            return
        if not told:
            progress.say(note(f"waiting for another longhand in {data} to finish"))
            told = True
        flag.check()
        flag.sleep(0.2)
    model = prepare_model(options, flag, progress)
    diarization = prepare_diarization(options, flag, progress)
    progress.say(note("starting the platform"))
    plan = Plan((model.id,), diarization, purpose="transcribe", drain_s=DRAIN_S)
    with running_stack(directory, plan, flag, lambda line: progress.say(note(line))) as stack:
        yield Platform(stack.api_url, model.id, stack.run, lasting=False, logs=directory.logs)
