"""The command line as tests run it: in processes, the model an exact oracle by default."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.programs.forked import run
from harness.repository.tree import ROOT
from harness.servers import patient
from worker.engines.oracle import encode

COMMAND = (sys.executable, "-P", "-m", "cli.main")
PATIENT_COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("patient_command.py")))
ENV = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'sdk'}")

OWN_CATALOGUE = """
[languages]
tones = ["en"]

[models.small-whisper]
description = "Not here."
engine = "faster-whisper"
source = "some/whisper"
revision = "0000000000000000000000000000000000000000"
languages = "tones"
window_s = 30
vad = "energy"
size_bytes = 1000000

[models.tones]
description = "Reads tones."
engine = "oracle"
source = "longhand"
revision = "1"
languages = "tones"
window_s = 30
vad = "energy"
size_bytes = 0
"""
"""Its better model is not usable where neither weights nor a hub are."""


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


def ended(url: str, job: str) -> dict[str, Any] | None:
    """Return a job once it has ended."""
    body: dict[str, Any] = patient.get(f"{url}/jobs/{job}").json()
    return body if body["state"] in ("succeeded", "failed", "canceled") else None


class Up:
    """A ``longhand up`` that has become ready."""

    def __init__(
        self, data: Path, *options: str, command: Sequence[str] = COMMAND, **variables: str
    ) -> None:
        self._data = data
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 - written to while it is up
        self.process = subprocess.Popen(
            [*command, "up", "--port", "0", "--model", "oracle", "--data", str(data), *options],
            env=ENV | variables,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("ready "):
                return
        raise AssertionError(self.stderr)

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        # The process has the same file open at the same position, which must not move.
        descriptor = self._stderr.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()

    @property
    def url(self) -> str:
        return self.lines[-1].removeprefix("ready ")

    def pids(self) -> dict[str, int]:
        """The living children by name."""
        record = json.loads((self._data / "stack.json").read_text())
        return {child["name"]: child["pid"] for child in record["children"]}

    def end(self, signum: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(signum)
        return self.process.wait(120), self.stderr

    def kill(self, *others: int) -> None:
        """``kill -9``, and of other processes after it."""
        for pid in (self.process.pid, *others):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
