"""The CPythons of this machine that Longhand supports: on the PATH, and pyenv's.

Run as a script it prints the newest, unless that is no newer than the one that runs the script.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

OLDEST = 11
_TELL = (
    "import ensurepip, sys; v = sys.version_info; "
    "print(sys.implementation.name, v.releaselevel, v.major, v.minor, sys._base_executable)"
)


@cache
def found() -> dict[str, Path]:
    """Return one interpreter for each minor version, oldest first: '3.11' to its path.

    Left out are pre-releases, what cannot make a virtual environment, and what does not start
    (version managers leave commands of this name that only say they are not installed).
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates: list[Path | str | None] = [sys.executable]
    for minor in range(OLDEST, 30):
        candidates.append(shutil.which(f"python3.{minor}"))
        candidates += sorted(pyenv.glob(f"versions/*/bin/python3.{minor}"), reverse=True)
    interpreters: dict[int, Path] = {}
    for candidate in filter(None, candidates):
        told = subprocess.run(
            [candidate, "-I", "-c", _TELL], capture_output=True, text=True, check=False
        )
        match told.stdout.split(maxsplit=4):
            case ["cpython", "final", "3", minor, path] if int(minor) >= OLDEST:
                interpreters.setdefault(int(minor), Path(path.strip()))
    return {f"3.{minor}": interpreters[minor] for minor in sorted(interpreters)}


if __name__ == "__main__":
    version, path = list(found().items())[-1]
    if version != f"3.{sys.version_info.minor}":
        print(path)
