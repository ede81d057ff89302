"""The bootstrap script: it installs once, again when the pins change, and whole or not at all.

pip is replaced by a stand-in, which records its calls: the network has no part in these claims.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "longhand"
STAND_IN = """\
import os, sys, time
from pathlib import Path
root = Path(os.environ["CLONE"])
if "pip" in sys.argv:
    with (root / "installs").open("a") as log:
        log.write("pins\\n")
    time.sleep(float(os.environ.get("INSTALL_S", "0")))
    if os.environ.get("FAIL"):
        print("ERROR: No matching distribution found")
        sys.exit(1)
else:
    print("ran", *sys.argv[4:])
"""


class Clone:
    """A clone whose virtual environments get a stand-in for their Python."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "requirements").mkdir(parents=True)
        self.pins = path / "requirements" / "run.txt"
        self.pins.write_text("thing==1\n")
        shutil.copy(SCRIPT, path / "longhand")
        # python -m venv, as the script calls it, through the interpreter it finds in PYTHON.
        (path / "stand_in.py").write_text(STAND_IN)
        fake = path / "fake-venv"
        fake.mkdir()
        (fake / "venv.py").write_text(
            "import os, sys\nfrom pathlib import Path\n"
            "bin = Path(sys.argv[1]) / 'bin'\nbin.mkdir(parents=True, exist_ok=True)\n"
            "(bin / 'python').write_text(f'#!/bin/sh\\nexec {sys.executable} "
            '{os.environ["CLONE"]}/stand_in.py "$@"\\n\')\n'
            "(bin / 'python').chmod(0o755)\n"
        )
        self.env = dict(os.environ, CLONE=str(path), PYTHONPATH=str(fake))

    def start(self, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.path / "longhand"), "models"],
            env=self.env | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, **extra: str) -> tuple[int, str, str]:
        process = self.start(**extra)
        stdout, stderr = process.communicate(timeout=30)
        return process.returncode, stdout, stderr

    @property
    def installs(self) -> list[str]:
        log = self.path / "installs"
        return log.read_text().split() if log.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "clone")


def test_first_run_installs_and_the_next_does_not(clone: Clone) -> None:
    code, stdout, stderr = clone.run()
    assert (code, stdout) == (0, "ran models\n")
    assert "first run" in stderr
    assert clone.run() == (0, "ran models\n", "")
    assert clone.installs == ["pins"]


def test_changed_pins_are_installed_into_the_same_environment(clone: Clone) -> None:
    clone.run()
    marker = clone.path / ".venv" / "marker"
    marker.touch()
    clone.pins.write_text("thing==2\n")
    assert clone.run()[0] == 0
    assert clone.installs == ["pins", "pins"]
    assert marker.exists()


def test_failed_install_is_one_line_and_redone_from_nothing(clone: Clone) -> None:
    code, stdout, stderr = clone.run(FAIL="1")
    assert (code, stdout) == (1, "")
    last = stderr.splitlines()[-1]
    assert last.startswith("longhand: error: installing failed: ERROR: No matching distribution")
    marker = clone.path / ".venv" / "marker"
    marker.touch()
    assert clone.run()[:2] == (0, "ran models\n")
    assert not marker.exists()


def test_killed_install_is_redone(clone: Clone) -> None:
    process = clone.start(INSTALL_S="60")
    while not clone.installs:
        assert process.poll() is None
    os.killpg(process.pid, 9)
    process.communicate()
    assert clone.run()[:2] == (0, "ran models\n")
    assert clone.installs == ["pins", "pins"]


def test_two_first_runs_at_once_install_once(clone: Clone) -> None:
    processes = [clone.start(INSTALL_S="0.5") for _ in range(2)]
    outputs = [process.communicate(timeout=30) for process in processes]
    assert [stdout for stdout, _ in outputs] == ["ran models\n"] * 2
    assert clone.installs == ["pins"]
    assert sum("waiting for another first run" in stderr for _, stderr in outputs) == 1
