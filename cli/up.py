"""``longhand up``: the embedded stack in the foreground."""

import sys
from pathlib import Path

from cli.embedded.directory import DataDirectory, DirectoryInUse
from cli.embedded.signals import StopFlag, Stopped
from cli.embedded.stack import Plan, running_stack
from cli.models import prepare_model
from cli.progress import PlainProgress, progress_on_stderr
from shared.models.options import JobOptions


def up(*, port: int, data: Path, models: tuple[str, ...], flower_port: int | None) -> int:
    """Run until a signal stops it; return the exit code, 0 after a clean stop.

    Raises:
        CommandError: it cannot start: the directory is in use, the port taken, a part broken.
    """
    flag = StopFlag()
    progress = PlainProgress()

    def say(line: str) -> None:
        progress.say(f"longhand: {line}")

    with flag.installed():
        try:
            directory = DataDirectory(data)
            directory.create()
            if directory.owner() is not None:  # told before anything is downloaded
                raise DirectoryInUse(data)
            with progress_on_stderr() as bars:
                wanted = [JobOptions(model=model) for model in models or (None,)]
                chosen = tuple(prepare_model(options, flag, bars).id for options in wanted)
            plan = Plan(tuple(dict.fromkeys(chosen)), port=port, flower_port=flower_port)
            with running_stack(directory, plan, flag, say) as stack:
                for program in stack.programs:
                    _tell(f"{program.name:<24} {program.address or 'running'}")
                _tell(f"ready {stack.api_url}")
                stack.run()
        except Stopped:
            return 0
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
