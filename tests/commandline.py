"""The command line as tests run it: in processes, the model an exact oracle by default."""

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import psutil
from forked import run

from worker.engines.oracle import encode

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-P", "-m", "cli.main")
ENV = dict(os.environ, PYTHONPATH=str(ROOT))


def running_on(data: Path) -> list[str]:
    """Commands of living processes that name the directory in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.cwd(), *process.environ().values()]
            if any(str(data) in word for word in words):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def write_words(path: Path, numbers: list[int]) -> Path:
    samples, _ = encode(numbers)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return path


def transcribe(
    data: Path, *arguments: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    return longhand("transcribe", *arguments, "--data", data, **variables)


def longhand(
    *arguments: str | Path, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, forked."""
    return run("cli.main", *map(str, arguments), env=ENV | variables, cwd=cwd)


class Up:
    """A ``longhand up`` that has become ready."""

    def __init__(self, data: Path, *options: str, **variables: str) -> None:
        self._data = data
        self.process = subprocess.Popen(
            [*COMMAND, "up", "--port", "0", "--model", "oracle", "--data", str(data), *options],
            env=ENV | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("ready "):
                return
        raise AssertionError(self.process.stderr and self.process.stderr.read())

    @property
    def url(self) -> str:
        return self.lines[-1].removeprefix("ready ")

    def pids(self) -> dict[str, int]:
        """The living children by name."""
        record = json.loads((self._data / "stack.json").read_text())
        return {child["name"]: child["pid"] for child in record["children"]}

    def end(self, signum: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(signum)
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr
