"""The tables of docs/scale.md."""

import os
import statistics
from collections.abc import Sequence

from bench.fleet import busy, costs

PARTS = ("costs", "fleet")
HOURS = 1000
"""Of audio that come in within an hour."""
LENGTHS = ("10 s", "10 min", "1 h")
_WIDTH = 44


def run(parts: Sequence[str], n_workers: int, batch_s: float, seconds: float) -> None:
    """Measure and print these parts, or all."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load average before {load}", flush=True)
    for part in parts or PARTS:
        if part == "costs":
            _print_costs(costs.measure(_say))
        else:
            _print_fleet(busy.measure(n_workers, batch_s, seconds, _say))


def _print_costs(measured: costs.Costs) -> None:
    services = sorted(name for name in measured.idle if name.startswith(costs.CPU))
    rows = (
        *costs.WHATS,
        *((f"ms of {name.removeprefix(costs.CPU)}", name) for name in services),
    )
    _row("of a job of", *LENGTHS, "and a chunk", "idle, 1 s")
    for title, what in rows:
        factor = 1000 if what.startswith(costs.CPU) else 1
        of_jobs = (job.get(what, 0.0) for job in measured.jobs)
        columns = (*of_jobs, measured.of_chunk(what), measured.idle.get(what, 0.0))
        _row(title, *(factor * column for column in columns))
    _row("chunks", *measured.n_chunks)
    _row("s of audio in a chunk", measured.chunk_s)
    _row(f"a second, for {HOURS} h an hour in files of", *LENGTHS)
    _row("jobs", *(HOURS / length_s for length_s in costs.LENGTHS_S))
    for title, what in rows:
        jobs = zip(measured.jobs, costs.LENGTHS_S, strict=True)
        cells = (job.get(what, 0.0) * HOURS / length_s for job, length_s in jobs)
        _row(title.replace("ms of", "cores of"), *cells)


def _print_fleet(fleet: busy.Fleet) -> None:
    used, shares = fleet.busy, sorted(fleet.shares())
    calls, within_s = (sum(column) for column in zip(*used.calls, strict=True))
    _row("model workers; s of a call, of the time", fleet.n_workers, fleet.batch_s, used.seconds)
    _row("from the fork until all are ready, s", fleet.start_s)
    _row("share of their time in the engine", statistics.mean(shares))
    _row("    of a worker: least, median, most", shares[0], statistics.median(shares), shares[-1])
    _row("    as the workers' own clocks say", within_s / fleet.n_workers / used.seconds)
    _row("chunks: a second, in a call", fleet.n_chunks / used.seconds, fleet.n_chunks / calls)
    _row("    ms: read in, waited for the engine", 1000 * fleet.read_s, 1000 * fleet.batch_wait_s)
    _row("    that still waited at the end", fleet.left)
    _row("SQL statements a second", sum(fleet.statements.values()))
    for kind, n in sorted(fleet.statements.items(), key=lambda item: -item[1]):
        _row(f"    {kind}", n)
    _row("", "busy", "idle")
    both = (used, fleet.idle)
    for title, what, factor in (
        ("transactions a second", "transactions", 1),
        ("rows updated a second", "rows updated", 1),
        ("rows inserted a second", "rows inserted", 1),
        ("WAL, kB a second", "wal_bytes", 1 / 1000),
        ("Redis commands a second", "commands", 1),
        ("Redis, kB a second", "redis_bytes", 1 / 1000),
    ):
        _row(title, *(factor * usage.counted[what] / usage.seconds for usage in both))
    _row("connections to Postgres, most", *(usage.backends.most for usage in both))
    for title, name in (
        ("    that execute, in the mean", "active"),
        ("    that wait for a lock", "locked"),
        ("    that wait for the disk", "flushing"),
    ):
        _row(title, *(getattr(usage.backends, name) / usage.backends.looks for usage in both))
    _row("cores used", *(sum(usage.cpu_s.values()) / usage.seconds for usage in both))
    for service, _ in sorted(used.cpu_s.items(), key=lambda item: -item[1]):
        _row(f"    {service}", *(usage.cpu_s[service] / usage.seconds for usage in both))
    _row("    others on this machine", *(usage.others_s / usage.seconds for usage in both))
    _row("memory of a worker, MiB", *(_mib(usage.memory.shares) for usage in both))
    _row("    that it shares with none", *(_mib(usage.memory.own) for usage in both))


def _mib(sizes: Sequence[int]) -> float:
    return statistics.mean(sizes) / 2**20


def _row(title: str, *cells: float | str) -> None:
    shown = (cell if isinstance(cell, str) else _digits(cell) for cell in cells)
    print(f"{title:<{_WIDTH}}" + "".join(f"{cell:>14}" for cell in shown), flush=True)


def _digits(value: float) -> str:
    """Return three digits, or all before the point."""
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def _say(what: str) -> None:
    print(f"... {what}", flush=True)
