"""The tree under test, as it is now."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def files() -> list[str]:
    """Return the paths of what a clone would have, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
