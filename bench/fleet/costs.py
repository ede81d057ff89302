"""What a job and each of its chunks ask of the platform's parts, and what many hours come to.

Jobs of three lengths are sent one after another: of one chunk, which has a shorter way, and of two
lengths of several chunks, whose difference is what one more chunk costs. What the idle platform
asks in the same time is subtracted. Requests are counted on one platform, and processor time on
another, where nothing is logged.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench.audio import write_words
from bench.cost.client import Client
from bench.cost.counts import Meter
from bench.cost.redis_commands import command_log
from bench.cost.statements import statement_log
from bench.cost.storage_requests import platform_behind_proxy
from bench.fleet.meters import read_database
from bench.platform import ROOT, platform

LENGTHS_S = (10.0, 600.0, 3600.0)
"""Of audio: of one chunk, of some twenty, of six times as many."""
REPEATS = (12, 3, 3)
"""Jobs of each length."""
IDLE_S = 30.0
REPORTED_S = 11.0
"""After which idle backends of Postgres have reported their rows."""
POLL_S = 0.05
CALLS = 3.0
"""Of the API for a job: to create it, to see it, to read its transcript."""

WHATS = (
    ("API calls", "calls"),
    ("SQL statements", "statements"),
    ("SQL transactions", "transactions"),
    ("rows inserted", "rows inserted"),
    ("rows updated", "rows updated"),
    ("rows deleted", "rows deleted"),
    ("WAL, kB", "wal_kb"),
    ("wake-ups (Redis LPUSH)", "redis lpush"),
    ("S3 PUTs", "s3 PUT"),
    ("S3 GETs", "s3 GET"),
    ("S3 requests of other kinds", "s3 others"),
    ("kB to S3", "s3_in_kb"),
    ("kB from S3", "s3_out_kb"),
)
"""Titles, and what is counted."""
CPU = "cpu "
"""Before the name of a service: its processor time, in seconds."""

_CHUNKS = """
    SELECT count(*), coalesce(avg((timings ->> 'audio_s')::float8), 0)
    FROM steps WHERE job_id = %s AND kind = 'transcribe'
"""
_STATE = "SELECT state FROM jobs WHERE id = %s"

Cost = dict[str, float]
"""By what is counted, or used."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Of jobs of each of ``LENGTHS_S``, and of the idle platform."""

    jobs: list[Cost]
    n_chunks: list[int]
    chunk_s: float
    """Mean length of a chunk of the longest job, with what two of them share."""
    idle: Cost
    """A second."""

    def of_chunk(self, what: str) -> float:
        """Return what one more chunk costs, in jobs of several."""
        _, few, many = (job.get(what, 0.0) for job in self.jobs)
        return (many - few) / (self.n_chunks[2] - self.n_chunks[1])


def measure(say: Callable[[str], None]) -> Costs:
    """Count, and then measure processor time."""
    say("counting what jobs of three lengths ask for")
    with _counting() as running:
        counted = _measure(running)
    say("measuring their processor time")
    with _timing() as running:
        timed = _measure(running)
    for mine, theirs in zip((*counted.jobs, counted.idle), (*timed.jobs, timed.idle), strict=True):
        mine.update(theirs)
    return counted


@dataclass(frozen=True, slots=True)
class _Running:
    """A platform, and how to read what it has been asked for, or has used, since its start."""

    url: str
    connection: psycopg.Connection
    read: Callable[[], Cost]


@contextmanager
def _counting() -> Iterator[_Running]:
    """Run a platform whose requests are counted where they arrive."""
    with (
        tempfile.TemporaryDirectory() as folder,
        platform_behind_proxy(ROOT, Path(folder), "oracle") as (platform_, storage),
        platform_.database() as connection,
        statement_log(platform_) as statements,
        command_log(platform_) as commands,
    ):
        meter = Meter(platform_, statements, commands, storage, connection.info.backend_pid)
        asked: Counter[str] = Counter()

        def read() -> Cost:
            for (what, _), n in meter.read()[0].items():
                verb = what.split()[1] if what.startswith("s3 ") else ""
                asked[f"s3 {verb if verb in ('PUT', 'GET') else 'others'}" if verb else what] += n
            database = read_database(connection)
            return {
                **asked,
                **{what: n for what, n in database.items() if what.startswith("rows ")},
                "wal_kb": database["wal_bytes"] / 1000,
                "s3_in_kb": storage.sent_bytes / 1000,
                "s3_out_kb": storage.received_bytes / 1000,
            }

        yield _Running(platform_.url, connection, read)


@contextmanager
def _timing() -> Iterator[_Running]:
    """Run a platform whose processor time is read."""
    with (
        tempfile.TemporaryDirectory() as folder,
        platform(Path(folder) / "data", "oracle") as platform_,
        platform_.database() as connection,
    ):
        yield _Running(
            platform_.url,
            connection,
            lambda: {CPU + name: used for name, used in platform_.cpu_s().items()},
        )


def _measure(running: _Running) -> Costs:
    with Client(running.url) as client:
        for seconds in LENGTHS_S[:2]:
            _transcribe(running, client, seconds)  # connections are opened, code is loaded
        time.sleep(REPORTED_S)
        before, began = running.read(), time.monotonic()
        time.sleep(IDLE_S)
        after, idle_s = running.read(), time.monotonic() - began
        idle = {what: (n - before.get(what, 0.0)) / idle_s for what, n in after.items()}

        jobs, n_chunks = [], []
        for seconds, repeats in zip(LENGTHS_S, REPEATS, strict=True):
            before, began = running.read(), time.monotonic()
            for _ in range(repeats):
                n, chunk_s = _transcribe(running, client, seconds)
            time.sleep(REPORTED_S)
            after, elapsed_s = running.read(), time.monotonic() - began
            n_chunks.append(n)
            jobs.append(
                {"calls": CALLS}
                | {
                    what: (n - before.get(what, 0.0) - idle.get(what, 0.0) * elapsed_s) / repeats
                    for what, n in after.items()
                }
            )
    return Costs(jobs, n_chunks, chunk_s, idle)


def _transcribe(running: _Running, client: Client, seconds: float) -> tuple[int, float]:
    """Have a job done, and read it; return the number and the mean length of its chunks."""
    job_id = client.post(_recording(seconds), cache="false")
    while (row := running.connection.execute(_STATE, [job_id]).fetchone()) != ("succeeded",):
        if row is None or row[0] not in ("queued", "running"):
            raise SystemExit(f"bench: job {job_id} has not succeeded: {row}")
        time.sleep(POLL_S)
    client.read(job_id)
    found = running.connection.execute(_CHUNKS, [job_id]).fetchone()
    assert found
    return found[0], found[1]


def _recording(seconds: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.wav"
        write_words(path, seconds)
        return path.read_bytes()
