"""Readings of a platform's servers and processes; the difference of two says what was used."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import redis

from bench.platform import Platform

_WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
_ROWS = """
    SELECT sum(n_tup_ins)::int, sum(n_tup_upd)::int, sum(n_tup_del)::int
    FROM pg_stat_user_tables
"""
_TRANSACTIONS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_BACKENDS = """
    SELECT count(*), count(*) FILTER (WHERE state = 'active'),
           count(*) FILTER (WHERE wait_event_type = 'Lock'),
           count(*) FILTER (WHERE wait_event = 'WALWrite' OR wait_event = 'WALSync')
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def read_database(connection: psycopg.Connection) -> Counter[str]:
    """Return what Postgres has counted: 'wal_bytes', 'transactions', 'rows inserted' and so on.

    A backend reports its rows and transactions within ten seconds once it is idle.
    """
    connection.execute("SELECT pg_stat_clear_snapshot()")
    rows = connection.execute(_ROWS).fetchone()
    wal, transactions = (connection.execute(query).fetchone() for query in (_WAL, _TRANSACTIONS))
    assert rows
    assert wal
    assert transactions
    read = Counter({"wal_bytes": int(wal[0]), "transactions": transactions[0]})
    for what, n in zip(("inserted", "updated", "deleted"), rows, strict=True):
        read[f"rows {what}"] = n
    return read


@dataclass(slots=True)
class Backends:
    """Connections of clients to Postgres, looked at again and again."""

    looks: int = 0
    most: int = 0
    active: int = 0
    """Sums over all looks: that execute, wait for a lock, wait for the disk."""
    locked: int = 0
    flushing: int = 0

    def look(self, connection: psycopg.Connection) -> None:
        """Look once more."""
        row = connection.execute(_BACKENDS).fetchone()
        assert row
        self.looks += 1
        self.most = max(self.most, row[0])
        self.active += row[1]
        self.locked += row[2]
        self.flushing += row[3]


def read_redis(platform: Platform) -> Counter[str]:
    """Return the commands that its Redis has processed, and the bytes in and out."""
    with redis.Redis.from_url(platform.environment["LONGHAND_BROKER_URL"]) as client:
        stats = client.info("stats")
    return Counter(
        {
            "commands": stats["total_commands_processed"],
            "redis_bytes": stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
        }
    )


@dataclass(slots=True)
class Memory:
    """Of some processes, in bytes."""

    shares: list[int] = field(default_factory=list)
    """Proportional set sizes: what several processes share is divided among them."""
    own: list[int] = field(default_factory=list)
    """What no other process has."""


def read_memory(processes: Iterable[psutil.Process]) -> Memory:
    """Read the kernel's account of each process."""
    memory = Memory()
    for process in processes:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        kib = {name: int(n) for name, n in re.findall(r"(?m)^(\w+): +(\d+) kB$", text)}
        memory.shares.append(1024 * kib["Pss"])
        memory.own.append(1024 * (kib["Private_Clean"] + kib["Private_Dirty"]))
    return memory
