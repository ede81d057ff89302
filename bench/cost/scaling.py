"""How fast several model workers get through chunks that wait for them: of one file, of many jobs.

The chunks are prepared before the workers begin, so that neither uploads nor decoding count. The
time is the database's, from the first claim of a chunk to the last completion.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench.audio import write_words
from bench.cost.client import Client, short_recording
from bench.cost.slow_worker import CALLS
from bench.platform import Platform, platform

POLL_S = 0.1
STOP_LIMIT_S = 60.0

FILE_MODEL, JOB_MODEL = "bench-file", "bench-job"
"""Ids of the oracle in a catalogue of our own: one hears ``window_s`` at once, one a short file."""
_CORE_SHARE = 0.53
"""Of the window, in the mean: strides take a third of it, and the quietest place to cut is sought
in its last quarter."""

_PREPARED = """
    SELECT count(*) FROM steps WHERE job_id = ANY (%s) AND kind = 'prepare' AND state = 'done'
"""
_PROGRESS = """
    SELECT count(*) FILTER (WHERE state = 'done'), count(*),
           extract(epoch FROM max(finished_at) - min(claimed_at))::float8
    FROM steps WHERE job_id = ANY (%s) AND kind = 'transcribe'
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Chunks that some workers have transcribed."""

    n_workers: int
    n_chunks: int
    seconds: float

    @property
    def chunks_per_s(self) -> float:
        """Chunks a second."""
        return self.n_chunks / self.seconds


@dataclass(frozen=True, slots=True)
class Workload:
    """A platform whose jobs wait for the model workers that come with each run."""

    platform: Platform
    connection: psycopg.Connection
    window_s: float

    def transcribe_file(self, n_chunks: int, n_workers: int, batch_s: float) -> Run:
        """Transcribe a file of about so many chunks; each batch takes ``batch_s``, asleep."""
        return self._transcribe([self.file_of(n_chunks)], FILE_MODEL, n_workers, batch_s)

    def transcribe_jobs(self, n_jobs: int, n_workers: int, batch_s: float) -> Run:
        """Transcribe many short files, each of one chunk."""
        recordings = [short_recording() for _ in range(n_jobs)]
        return self._transcribe(recordings, JOB_MODEL, n_workers, batch_s)

    def file_of(self, n_chunks: int) -> bytes:
        """Return a WAV file of about so many chunks."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "words.wav"
            write_words(path, n_chunks * self.window_s * _CORE_SHARE)
            return path.read_bytes()

    def prepare(self, client: Client, recordings: Sequence[bytes], model: str) -> list[str]:
        """Send recordings, and wait until all of their chunks are; return the ids of the jobs."""
        options = {"model": model, "cache": "false", "wait_for_worker": "true"}
        jobs = [client.post(recording, **options) for recording in recordings]
        while self._ask(_PREPARED, jobs) != (len(jobs),):
            time.sleep(POLL_S)
        return jobs

    def _transcribe(
        self, recordings: Sequence[bytes], model: str, n_workers: int, batch_s: float
    ) -> Run:
        with Client(self.platform.url) as client:
            jobs = self.prepare(client, recordings, model)
            with workers(self.platform, model, n_workers, batch_s):
                done, planned, seconds = 0, -1, 0.0
                while done != planned:
                    time.sleep(POLL_S)
                    done, planned, seconds = self._ask(_PROGRESS, jobs)
                for job in jobs:
                    client.await_end(job)
        return Run(n_workers, planned, seconds)

    def _ask(self, query: str, jobs: list[str]) -> tuple[int, ...]:
        row = self.connection.execute(query.encode(), [jobs]).fetchone()
        assert row is not None
        return tuple(row)


@contextmanager
def workload(
    tree: Path, window_s: float, program: Sequence[str] = ("-m", "cli.main")
) -> Iterator[Workload]:
    """Run a platform of ``tree`` that knows two more models and has no worker for them.

    ``program`` is what Python runs with the arguments of ``longhand``.
    """
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "models.toml"
        catalogue.write_text(_catalogue((tree / "models.toml").read_text(), window_s))
        environment = {"LONGHAND_CATALOGUE": str(catalogue)}
        data = Path(folder) / "data"
        with (
            platform(
                data, "oracle", tree=tree, environment=environment, program=program
            ) as running,
            running.database() as connection,
        ):
            yield Workload(running, connection, window_s)


def _catalogue(catalogue: str, window_s: float) -> str:
    """Return a catalogue of that one's oracle, and of the same under our two ids."""
    found = re.search(r"^\[models\.oracle\]\n(?:[^\n\[].*\n?)*", catalogue, re.MULTILINE)
    assert found, "the catalogue has no oracle"
    oracle = found[0].rstrip() + "\n"
    job_model = oracle.replace("[models.oracle]", f"[models.{JOB_MODEL}]")
    file_model = oracle.replace("[models.oracle]", f"[models.{FILE_MODEL}]")
    file_model = re.sub(r"(?m)^window_s = .*$", f"window_s = {window_s}", file_model)
    # Without a detector all of the file is speech, and chunks are as long as the window lets them.
    file_model = re.sub(r"(?m)^vad = .*$", 'vad = "off"', file_model)
    return f"[languages]\n\n{oracle}\n{job_model}\n{file_model}"


@dataclass(frozen=True, slots=True)
class Workers:
    """Model workers, and the process from which they were forked."""

    template: psutil.Process
    calls_file: Path

    @property
    def processes(self) -> list[psutil.Process]:
        """Return the workers' processes."""
        return self.template.children()

    def calls(self) -> list[tuple[int, float]]:
        """Return how often each engine was called so far, and the seconds within these calls."""
        return [*CALLS.iter_unpack(self.calls_file.read_bytes())]


@contextmanager
def workers(running: Platform, model: str, n_workers: int, batch_s: float) -> Iterator[Workers]:
    """Run model workers of the platform's tree beside it, forked from one process."""
    calls = running.data / "bench-calls"
    environment = {
        **running.environment,
        "SLOW_BATCH_S": str(batch_s),
        "SLOW_CALLS": str(calls),
    }
    script = str(Path(__file__).with_name("slow_worker.py"))
    with (running.data / "logs" / "bench-workers.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", script, str(n_workers), "model", "--model", model],
            env=environment,
            cwd=running.data,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin
    assert process.stdout
    try:
        if process.stdout.readline() != b"loaded\n":
            raise SystemExit("bench: the model workers do not start")
        process.stdin.write(b"\n")
        process.stdin.flush()
        yield Workers(psutil.Process(process.pid), calls)
    finally:
        process.stdin.close()
        process.wait(STOP_LIMIT_S)
