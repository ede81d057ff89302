"""The bootstrap script: it installs once, again when the pins change, and whole or not at all.

tests/e2e/test_first_run.py installs in earnest. Here pip is replaced by a stand-in, which
records its calls: the network has no part in these claims.
"""

import ast
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from harness.repository.tree import ROOT

SCRIPT = ROOT / "longhand"
STAND_IN = """\
import os, sys, time
from pathlib import Path
root = Path(os.environ["CLONE"])
if "pip" in sys.argv:
    with (root / "installs").open("a") as log:
        log.write("pins\\n")
    while "HELD" in os.environ and not (root / "go-on").exists():
        time.sleep(0.01)
    if os.environ.get("FAIL"):
        print(os.environ["FAIL"])
        sys.exit(1)
elif sys.argv[1].endswith("prune.py"):
    with (root / "installs").open("a") as log:
        log.write("prune\\n")
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
        self.prune = path / "requirements" / "prune.py"
        self.prune.touch()
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

    def start(self, *python: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*(python or [sys.executable]), str(self.path / "longhand"), "models"],
            env=self.env | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *python: str, **extra: str) -> tuple[int, str, str]:
        process = self.start(*python, **extra)
        stdout, stderr = process.communicate(timeout=60)
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
    assert clone.installs == ["pins", "prune"]


def test_changed_pins_are_installed_into_the_same_environment(clone: Clone) -> None:
    clone.run()
    marker = clone.path / ".venv" / "marker"
    marker.touch()
    clone.pins.write_text("thing==2\n")
    assert clone.run()[0] == 0
    assert clone.installs == ["pins", "prune"] * 2
    assert marker.exists()


def test_failed_install_is_one_line_and_redone_from_nothing(clone: Clone) -> None:
    code, stdout, stderr = clone.run(FAIL="ERROR: No matching distribution found for thing==1")
    assert (code, stdout) == (1, "")
    last = stderr.splitlines()[-1]
    assert last.startswith("longhand: error: installing failed: ERROR: No matching distribution")
    marker = clone.path / ".venv" / "marker"
    marker.touch()
    assert clone.run()[:2] == (0, "ran models\n")
    assert not marker.exists()


def test_killed_install_is_redone(clone: Clone) -> None:
    process = clone.start(HELD="")
    while not clone.installs:
        assert process.poll() is None
    os.killpg(process.pid, 9)
    process.communicate()
    assert clone.run()[:2] == (0, "ran models\n")
    assert clone.installs == ["pins", "pins", "prune"]


def test_two_first_runs_at_once_install_once(clone: Clone) -> None:
    first = clone.start(HELD="")
    while not clone.installs:
        assert first.poll() is None
    second = clone.start(HELD="")
    assert second.stderr is not None
    assert "waiting for another first run" in second.stderr.readline()
    (clone.path / "go-on").touch()
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [stdout for stdout, _ in outputs] == ["ran models\n"] * 2
    assert clone.installs == ["pins", "prune"]
    assert "waiting" not in outputs[0][1]


def test_changed_list_of_what_is_dropped_installs_again(clone: Clone) -> None:
    clone.run()
    clone.prune.write_text("# more\n")
    assert clone.run()[0] == 0
    assert clone.installs == ["pins", "prune"] * 2


RETRIES = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError()'"
NONE_FOUND = "ERROR: Could not find a version that satisfies thing==1 (from versions: none)"


@pytest.mark.parametrize("said", [RETRIES, NONE_FOUND, "pip._vendor...: Read timed out."])
def test_index_that_cannot_be_reached_is_said_in_one_sentence(clone: Clone, said: str) -> None:
    code, stdout, stderr = clone.run(FAIL=f"{said}\nERROR: No matching distribution for thing==1")
    assert (code, stdout) == (1, "")
    sentence = (
        "longhand: error: the package index cannot be reached: check the network and pip's "
        f"settings, then run this again (details: {clone.path}/.venv/longhand-install.log)"
    )
    assert [line for line in stderr.splitlines() if "error:" in line] == [sentence]


def test_retry_that_helped_is_not_blamed_for_what_fails_later(clone: Clone) -> None:
    later = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"
    _, _, stderr = clone.run(FAIL=f"{RETRIES}\n  Downloading thing-1.whl (1 kB)\n{later}")
    assert f"longhand: error: installing failed: {later}" in stderr


def test_python_that_cannot_make_environments_is_one_sentence(clone: Clone) -> None:
    """Debian's python3 without python3-venv: there is a venv module, which fails."""
    venv = clone.path / "fake-venv" / "venv.py"
    whole = venv.read_text()
    venv.write_text("print('ensurepip is not available.')\nraise SystemExit(1)\n")
    code, stdout, stderr = clone.run()
    assert (code, stdout) == (1, "")
    made, error = stderr.splitlines()
    assert "first run: making" in made
    assert error.startswith("longhand: error: this Python cannot make virtual environments")
    assert "apt install python3-venv" in error
    venv.write_text(whole)
    assert clone.run()[:2] == (0, "ran models\n")


def test_script_parses_on_pythons_that_are_too_old() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    # Python 3.6 knows no such thing, which only its compiler says.
    assert not [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]


def as_version(version: str) -> str:
    """Source that runs the script named after it on a Python that says it is of another version."""
    numbers = tuple(map(int, version.split(".")))
    return (
        f"import runpy, sys; sys.version_info = {numbers}; sys.version = '{version} (main)'; "
        "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    )


def test_old_python_is_one_sentence(clone: Clone) -> None:
    told = clone.run(sys.executable, "-c", as_version("3.10.1"), PATH="/nonexistent")
    assert told == (1, "", "longhand: error: Longhand needs Python 3.11 or later; this is 3.10.1\n")


@pytest.mark.parametrize("version", ["3.10.1", "3.14.0"])
def test_untested_python_hands_over_to_a_tested_one_on_the_path(clone: Clone, version: str) -> None:
    programs = clone.path / "programs"
    programs.mkdir()
    tested = programs / f"python3.{sys.version_info.minor}"
    tested.write_text(f'#!/bin/sh\ntouch {clone.path}/handed-over\nexec "{sys.executable}" "$@"\n')
    tested.chmod(0o755)
    told = clone.run(sys.executable, "-c", as_version(version), PATH=f"{programs}:/usr/bin:/bin")
    assert told[:2] == (0, "ran models\n")
    assert (clone.path / "handed-over").exists()


def test_later_python_is_tried_where_there_is_no_tested_one(clone: Clone) -> None:
    fails = {"FAIL": "ERROR: Failed to build thing", "PATH": "/nonexistent"}
    _, _, stderr = clone.run(sys.executable, "-c", as_version("3.14.0"), **fails)
    assert "installing failed, on a Python without all wheels: ERROR: Failed to build" in stderr
    assert clone.run(sys.executable, "-c", as_version("3.14.0"), PATH="/nonexistent")[0] == 0


def elf(sections: dict[str, bytes]) -> bytes:
    """A 64-bit file of these sections, their names last, as elf(5) lays it out."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".shstrtab"))
    headers, body = [], b""
    for name, content in {**sections, ".shstrtab": names}.items():
        at = names.index(name.encode() + b"\0")
        headers.append(struct.pack("<IIQQQQ24x", at, 1, 0, 0, 64 + len(body), len(content)))
        body += content
    start = b"\x7fELF\x02\x01".ljust(40, b"\0") + struct.pack("<Q", 64 + len(body))
    counts = struct.pack("<3H", 64, len(headers), len(headers) - 1)
    return start.ljust(58, b"\0") + counts + body + b"".join(headers)


def test_pruning_frees_debug_sections_and_nothing_else(tmp_path: Path) -> None:
    megabyte = 1 << 20
    code, symbols, text = b"c" * megabyte, b"d" * 8 * megabyte, b"t" * 4096
    library = tmp_path / "package" / "module.so"
    library.parent.mkdir()
    library.write_bytes(elf({".text": code, ".debug_info": symbols, ".dynstr": text}))
    library.chmod(0o751)
    script = tmp_path / "package" / "linker-script.so"
    script.write_text("INPUT(module.so)")
    for _ in range(2):
        subprocess.run([sys.executable, ROOT / "requirements" / "prune.py", tmp_path], check=True)
        assert library.read_bytes() == elf(
            {".text": code, ".debug_info": bytes(len(symbols)), ".dynstr": text}
        )
        assert library.stat().st_blocks * 512 < 2 * megabyte
        assert library.stat().st_mode & 0o777 == 0o751
    assert script.read_text() == "INPUT(module.so)"


def test_pruning_keeps_the_services_of_botocore_that_are_called(tmp_path: Path) -> None:
    data = tmp_path / "botocore" / "data"
    for name in ("s3", "sts", "ec2"):
        (data / name).mkdir(parents=True)
    (data / "endpoints.json").touch()
    subprocess.run([sys.executable, ROOT / "requirements" / "prune.py", tmp_path], check=True)
    assert sorted(path.name for path in data.iterdir()) == ["endpoints.json", "s3", "sts"]
