"""What a person at the command line learns of a bug in a worker."""

import subprocess
import sys
from pathlib import Path

from harness.programs.command_line import ENV, write_words
from harness.repository.tree import ROOT

FAULTY_COMMAND = ROOT / "tests/harness/faults/faulty_command.py"


def test_a_bug_in_every_step_ends_soon_and_in_a_line_that_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "bug").touch()
    clip = write_words(tmp_path / "clip.wav", [1, 2, 3])
    data = tmp_path / "data"
    command = [str(FAULTY_COMMAND), "transcribe", str(clip), "--model", "oracle"]
    done = subprocess.run(
        [sys.executable, *command, "--data", str(data)],
        env=ENV | {"FAULTY_BUG": str(tmp_path / "bug")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("longhand: error:")]
    assert "prepare failed twice in the same way: an unexpected error (TypeError) at step 1" in line
    assert line.endswith(f"see worker-cpu.log (logs: {data / 'logs'})")
    assert "Traceback" not in done.stderr
    assert "step 1 (prepare): unexpected error" in (data / "logs" / "worker-cpu.log").read_text()
