"""Many model workers of one platform, whose device is a sleep: how much of their time it has work.

The workers are whole processes of ``python -m worker model``, forked from one that has imported
their code. Only the engine is not real: it sleeps for each call, and then reads the words of its
chunks. So claims, leases, heartbeats, wake-ups, reads of chunks, completions and live takers are
real. All chunks are planned, stored and held back before; they become due at once.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import psycopg

from bench.cost.client import Client
from bench.cost.scaling import FILE_MODEL, Workload, workers, workload
from bench.cost.statements import statement_log
from bench.fleet.meters import Backends, Memory, read_database, read_memory, read_redis
from bench.platform import ROOT

WINDOW_S = 1.0
"""Of audio in a chunk at most, so that the machine can store all of them."""
BATCH = 4
"""Chunks that an engine hears at once: the oracle's."""
FILE_CHUNKS = 960
"""Of each file."""
READY_LIMIT_S = 300.0
IDLE_S = 20.0
RAMP_S = 15.0
"""From when the chunks are due to when the time counts: the sweep wakes workers every 5 s."""
LOGGED_S = 5.0
"""For how long all statements are logged, after the time that counts."""
LOOK_S = 0.2
SPARE = 1.15
"""Chunks that are prepared, by those that the workers can do."""

CONNECTIONS_PER_WORKER = 20
"""Of Postgres; the embedded stack's own limit is for ten model workers."""
_MAIN = """
from cli.embedded import postgres
from cli.main import main

postgres.SERVICE_CONNECTIONS += {connections}
main()
"""

KINDS = (
    ("claims", "passed_over AS"),
    ("completions of chunks", "progress AS"),
    ("jobs that start", "'job.running'"),
    ("renewals of leases", "renewed AS"),
    ("entries in the registry", "INSERT INTO workers"),
    ("notices to watchers", "pg_notify"),
    ("counts of slots", "sum(slots)"),
    ("BEGIN, COMMIT", "BEGIN"),
    ("BEGIN, COMMIT", "COMMIT"),
)
"""Statements by a part of their text."""

_READY = "SELECT count(*) FROM workers WHERE model = %s AND state = 'ready'"
_HOLD = """
    UPDATE steps SET run_at = 'infinity'
    WHERE kind = 'transcribe' AND state = 'queued' AND queue = %s
"""
_RELEASE = """
    UPDATE steps SET run_at = clock_timestamp() WHERE state = 'queued' AND run_at = 'infinity'
"""
_LEFT = "SELECT count(*) FROM steps WHERE queue = %s AND state = 'queued'"
_DONE = """
    SELECT lease_owner, count(*),
           sum(1.0 / (timings ->> 'batch_size')::int)::float8,
           sum((timings ->> 'inference_s')::float8 / (timings ->> 'batch_size')::int)::float8,
           sum((timings ->> 'read_s')::float8)::float8,
           sum((timings ->> 'batch_wait_s')::float8)::float8
    FROM steps
    WHERE kind = 'transcribe' AND queue = %s AND state = 'done'
      AND finished_at > %s AND finished_at <= %s
    GROUP BY lease_owner
"""


@dataclass(slots=True)
class Usage:
    """What was used in some seconds."""

    seconds: float = 0.0
    cpu_s: Counter[str] = field(default_factory=Counter)
    """User and system time by service."""
    others_s: float = 0.0
    """Processor time of all that is not the platform's."""
    counted: Counter[str] = field(default_factory=Counter)
    """As ``read_database`` and ``read_redis`` name it."""
    backends: Backends = field(default_factory=Backends)
    memory: Memory = field(default_factory=Memory)
    """Of the model workers, at the end."""


@dataclass(slots=True)
class Fleet:
    """What was measured of the workers."""

    n_workers: int
    batch_s: float
    start_s: float
    """From the fork until all were ready."""
    idle: Usage
    busy: Usage
    calls: list[float] = field(default_factory=list)
    """Calls of its engine of each worker."""
    n_chunks: int = 0
    inference_s: float = 0.0
    """In the engine, of all workers together."""
    read_s: float = 0.0
    """For which a chunk's samples were read, in the mean; and that it waited for its batch."""
    batch_wait_s: float = 0.0
    statements: Counter[str] = field(default_factory=Counter)
    """By kind, a second."""
    left: int = 0
    """Chunks that still waited at the end: the workers never lacked any."""

    def share_of(self, calls: float) -> float:
        """Return the share of the time that so many calls take, of ``batch_s`` each."""
        return calls * self.batch_s / self.busy.seconds


def measure(n_workers: int, batch_s: float, seconds: float, say: Callable[[str], None]) -> Fleet:
    """Have so many workers transcribe for some seconds; they never lack chunks."""
    program = ("-c", _MAIN.format(connections=CONNECTIONS_PER_WORKER * n_workers))
    with workload(ROOT, WINDOW_S, program) as work, Client(work.platform.url) as client:
        n_chunks = SPARE * n_workers * BATCH / batch_s * (RAMP_S + seconds + LOGGED_S)
        n_files = max(1, -(-int(n_chunks) // FILE_CHUNKS))
        say(f"preparing {n_files} files of {FILE_CHUNKS} chunks")
        recording = work.file_of(FILE_CHUNKS)
        work.prepare(client, [recording] * n_files, FILE_MODEL)
        queue = f"model.{FILE_MODEL}"
        work.connection.execute(_HOLD, [queue])
        work.connection.execute("VACUUM ANALYZE")
        say(f"starting {n_workers} workers")
        began = time.monotonic()
        with workers(work.platform, FILE_MODEL, n_workers, batch_s) as template:
            _await_ready(work.connection, n_workers)
            start_s = time.monotonic() - began
            idle = _use(work, template, IDLE_S)
            work.connection.execute(_RELEASE)
            say("measuring")
            time.sleep(RAMP_S)
            since = _now(work.connection)
            busy = _use(work, template, seconds)
            until = _now(work.connection)
            fleet = Fleet(n_workers, batch_s, start_s, idle, busy)
            _note_statements(work, fleet)
            fleet.left = _ask(work.connection, _LEFT, [queue])
            _note_chunks(work.connection, fleet, [queue, since, until])
    return fleet


def _await_ready(connection: psycopg.Connection, n_workers: int) -> None:
    until = time.monotonic() + READY_LIMIT_S
    while _ask(connection, _READY, [FILE_MODEL]) < n_workers:
        if time.monotonic() > until:
            raise SystemExit(f"bench: {n_workers} workers are not ready after {READY_LIMIT_S:g} s")
        time.sleep(LOOK_S)


def _ask(connection: psycopg.Connection, query: str, parameters: list[object]) -> int:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row
    return int(row[0])


def _now(connection: psycopg.Connection) -> object:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row
    return row[0]


def _use(work: Workload, template: psutil.Process, seconds: float) -> Usage:
    """Look on for some seconds."""
    usage = Usage()
    began, cpu_s, machine_s, counted = _readings(work, template)
    while time.monotonic() < began + seconds:
        usage.backends.look(work.connection)
        time.sleep(LOOK_S)
    ended, cpu_later_s, machine_later_s, counted_later = _readings(work, template)
    usage.seconds = ended - began
    usage.cpu_s = Counter({name: cpu_later_s[name] - cpu_s[name] for name in cpu_s})
    usage.others_s = machine_later_s - machine_s - sum(usage.cpu_s.values())
    usage.counted = Counter({name: counted_later[name] - counted[name] for name in counted})
    usage.memory = read_memory(template.children())
    return usage


def _readings(
    work: Workload, template: psutil.Process
) -> tuple[float, dict[str, float], float, Counter[str]]:
    counted = read_database(work.connection) + read_redis(work.platform)
    times = psutil.cpu_times()
    machine_s = sum(times) - times.idle - times.iowait
    children = [child.cpu_times() for child in template.children()]
    cpu_s = work.platform.cpu_s() | {"model workers": sum(t.user + t.system for t in children)}
    return time.monotonic(), cpu_s, machine_s, counted


def _note_statements(work: Workload, fleet: Fleet) -> None:
    """Have all statements of some seconds logged, and count them by kind."""
    with statement_log(work.platform) as log:
        log.read()
        began = time.monotonic()
        time.sleep(LOGGED_S)
        sent = log.read()
        elapsed_s = time.monotonic() - began
    for statement in sent:
        kind = next((kind for kind, part in KINDS if part in statement.text), "others")
        fleet.statements[kind] += 1
    for kind in fleet.statements:
        fleet.statements[kind] /= elapsed_s  # type: ignore[assignment]


def _note_chunks(connection: psycopg.Connection, fleet: Fleet, window: list[object]) -> None:
    rows = connection.execute(_DONE.encode(), window).fetchall()
    fleet.calls = [row[2] for row in rows] + [0.0] * (fleet.n_workers - len(rows))
    fleet.n_chunks = sum(row[1] for row in rows)
    fleet.inference_s = sum(row[3] for row in rows)
    fleet.read_s = sum(row[4] for row in rows) / max(1, fleet.n_chunks)
    fleet.batch_wait_s = sum(row[5] for row in rows) / max(1, fleet.n_chunks)
