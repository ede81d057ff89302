"""Many model workers of one platform, whose device is a sleep: how much of their time it has work.

The workers are whole processes of ``python -m worker model``, forked from one that has imported
their code. Only the engine is not real: it reads the words of its chunks, and sleeps for the rest
of the call. So claims, leases, heartbeats, wake-ups, reads of chunks, completions and live takers
are real. All chunks are planned, stored and held back before; they become due at once.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import psycopg

from bench.cost.client import Client
from bench.cost.scaling import FILE_MODEL, Workers, Workload, workers, workload
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
IDLE_SHARE = 0.3
"""Of the time that counts, for which idle workers are watched before."""
RAMP_S = 10.0
"""From when the chunks are due to when the time counts: the sweep wakes workers every 5 s."""
LOGGED_S = 4.0
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
postgres.SHARED_BUFFERS = "128MB"
main()
"""
"""A fleet has a server of its own, with no less than Postgres' own default."""

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
    SELECT count(*), coalesce(avg((timings ->> 'read_s')::float8), 0),
           coalesce(avg((timings ->> 'batch_wait_s')::float8), 0)
    FROM steps
    WHERE kind = 'transcribe' AND queue = %s AND state = 'done'
      AND finished_at > %s AND finished_at <= %s
"""


@dataclass(slots=True)
class Usage:
    """What was used in some seconds."""

    seconds: float = 0.0
    since: object = None
    """By the database's clock, and until when."""
    until: object = None
    cpu_s: dict[str, float] = field(default_factory=dict)
    """User and system time by service."""
    others_s: float = 0.0
    """Processor time of all that is not the platform's."""
    counted: Counter[str] = field(default_factory=Counter)
    """As ``read_database`` and ``read_redis`` name it."""
    backends: Backends = field(default_factory=Backends)
    memory: Memory = field(default_factory=Memory)
    """Of the model workers, at the end."""
    calls: list[tuple[int, float]] = field(default_factory=list)
    """Of each worker's engine that ended: how many, and the seconds within them."""


@dataclass(slots=True)
class Fleet:
    """What was measured of the workers."""

    n_workers: int
    batch_s: float
    start_s: float
    """From the fork until all were ready."""
    idle: Usage
    busy: Usage
    n_chunks: int = 0
    read_s: float = 0.0
    """For which a chunk's samples were read, in the mean; and that it waited for its batch."""
    batch_wait_s: float = 0.0
    statements: dict[str, float] = field(default_factory=dict)
    """By kind, a second."""
    left: int = 0
    """Chunks that still waited at the end: the workers never lacked any."""

    def shares(self) -> list[float]:
        """Return the share of each worker's time in its engine: calls of ``batch_s`` that ended."""
        return [n * self.batch_s / self.busy.seconds for n, _ in self.busy.calls]


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
        with workers(work.platform, FILE_MODEL, n_workers, batch_s) as running:
            _await_ready(work.connection, n_workers)
            start_s = time.monotonic() - began
            idle = _use(work, running, IDLE_SHARE * seconds)
            work.connection.execute(_RELEASE)
            say("measuring")
            time.sleep(RAMP_S)
            busy = _use(work, running, seconds)
            fleet = Fleet(n_workers, batch_s, start_s, idle, busy)
            _note_statements(work, fleet)
            fleet.left = _ask(work.connection, _LEFT, [queue])
            _note_chunks(work.connection, fleet, [queue, busy.since, busy.until])
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


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    database_at: object
    """By the database's clock."""
    cpu_s: dict[str, float]
    machine_s: float
    """Processor time of the whole machine."""
    counted: Counter[str]
    calls: list[tuple[int, float]]


def _read(work: Workload, running: Workers) -> _Reading:
    at, database_at, calls = time.monotonic(), _now(work.connection), running.calls()
    times = [process.cpu_times() for process in running.processes]
    of_workers_s = sum(each.user + each.system for each in times)
    machine = psutil.cpu_times()
    return _Reading(
        at,
        database_at,
        work.platform.cpu_s() | {"model workers": of_workers_s},
        sum(machine) - machine.idle - machine.iowait,
        read_database(work.connection) + read_redis(work.platform),
        calls,
    )


def _use(work: Workload, running: Workers, seconds: float) -> Usage:
    """Look on for some seconds, and once at least: a busy machine takes seconds to read."""
    usage = Usage()
    first = _read(work, running)
    usage.backends.look(work.connection)
    while time.monotonic() < first.at + seconds:
        time.sleep(LOOK_S)
        usage.backends.look(work.connection)
    last = _read(work, running)
    usage.seconds = last.at - first.at
    usage.since, usage.until = first.database_at, last.database_at
    usage.cpu_s = {name: last.cpu_s[name] - used for name, used in first.cpu_s.items()}
    usage.others_s = last.machine_s - first.machine_s - sum(usage.cpu_s.values())
    usage.counted = last.counted - first.counted
    usage.calls = [
        (n - n_before, total_s - before_s)
        for (n_before, before_s), (n, total_s) in zip(first.calls, last.calls, strict=True)
    ]
    usage.memory = read_memory(running.processes)
    return usage


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
        fleet.statements[kind] = fleet.statements.get(kind, 0.0) + 1 / elapsed_s


def _note_chunks(connection: psycopg.Connection, fleet: Fleet, window: list[object]) -> None:
    row = connection.execute(_DONE.encode(), window).fetchone()
    assert row
    fleet.n_chunks, fleet.read_s, fleet.batch_wait_s = row
