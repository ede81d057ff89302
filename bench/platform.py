"""A running ``longhand up`` to measure, and the memory of its processes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Platform:
    """A platform with its own data directory."""

    data: Path
    url: str
    ready_s: float
    """From the command to its line 'ready'."""


def command(*arguments: str) -> list[str]:
    """Return the command line that runs ``longhand`` in this environment."""
    return [sys.executable, "-m", "cli.main", *arguments]


@contextmanager
def platform(data: Path, model: str) -> Iterator[Platform]:
    """Run ``longhand up`` on a free port; stop it with SIGTERM afterwards."""
    started = time.monotonic()
    process = subprocess.Popen(
        command("up", "--port", "0", "--data", str(data), "--model", model),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout or ():
            if line.startswith("ready "):
                yield Platform(data, line.split()[1], time.monotonic() - started)
                return
        sys.exit("bench: the platform did not become ready")
    finally:
        process.terminate()
        process.wait(60)


@dataclass
class PeakMemory:
    """Samples the memory of a platform's services, forked children included, 10 times a second.

    RSS counts pages shared with other processes in each of them. A long-lived Postgres backend
    touches more and more of the buffers that all backends share, whose size is a setting; so what
    is a process's own is kept apart.
    """

    data: Path
    peaks: dict[str, int] = field(default_factory=dict)
    """Service name -> the largest RSS of any one of its processes, in bytes."""
    own_peaks: dict[str, int] = field(default_factory=dict)
    """The same without shared pages, neither shared memory's nor those of files."""

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample while the block runs."""
        done = threading.Event()
        thread = threading.Thread(target=self._sample_until, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _sample_until(self, done: threading.Event) -> None:
        children = json.loads((self.data / "stack.json").read_text())["children"]
        while not done.wait(0.1):
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    service = psutil.Process(child["pid"])
                    for process in (service, *service.children(recursive=True)):
                        with suppress(psutil.NoSuchProcess):
                            self._note(child["name"], process.memory_info())

    def _note(self, name: str, memory: Any) -> None:
        self.peaks[name] = max(memory.rss, self.peaks.get(name, 0))
        self.own_peaks[name] = max(memory.rss - memory.shared, self.own_peaks.get(name, 0))
