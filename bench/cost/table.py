"""All that is measured of a job's cost, in one table: a column a tree."""

import os
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import startup
from bench.cost import claims, counts, latency, scaling, throughput

PARTS = ("counts", "latency", "throughput", "chunks", "scaling", "claims", "startup")
N_WORKERS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    counted_jobs: int = 20
    timed_jobs: int = 100
    n_clients: int = 8
    seconds: float = 60.0
    """Of sustained load."""
    window_s: float = 1.0
    """The most audio that a chunk of the long file holds."""
    n_chunks: int = 2000
    """Of the file of which an engine that takes no time transcribes the chunks."""
    file_chunks: int = 960
    """Of the file with which workers are multiplied: as many as 8 h have with windows of 30 s."""
    short_jobs: int = 500
    batch_s: float = 1.0
    """What a batch takes then."""


@dataclass(slots=True)
class Table:
    """Rows of numbers, printed as they come."""

    trees: Mapping[str, Path]
    """By the heading of the column."""
    width: int = 58

    def print_head(self) -> None:
        """Print the machine and the headings."""
        load = " ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"{os.cpu_count()} cores, load average before {load}")
        self._print("", [*self.trees, *(["ratio"] if len(self.trees) > 1 else [])])

    def add(self, what: str, values: Sequence[float | None], digits: int = 1) -> None:
        """Print one row; the ratio is the last value over the first."""
        cells = ["none" if value is None else f"{value:.{digits}f}" for value in values]
        if len(values) > 1:
            first, last = values[0], values[-1]
            cells.append(f"{last / first:.2f}" if first and last is not None else "")
        self._print(what, cells)

    def _print(self, what: str, cells: Sequence[str]) -> None:
        print(f"{what:<{self.width}}" + "".join(f"{cell:>10}" for cell in cells), flush=True)


@dataclass(slots=True)
class Measurement:
    """Measures the trees part by part, so that a part's numbers are close in time."""

    table: Table
    extent: Extent
    statements: Path | None = None
    """Where to list the statements of a job, if anywhere."""
    _parts: dict[str, Callable[[], None]] = field(init=False)

    def __post_init__(self) -> None:
        self._parts = {name: getattr(self, f"_{name}") for name in PARTS}

    def run(self, parts: Sequence[str]) -> None:
        """Measure and print these parts, or all."""
        self.table.print_head()
        for name in parts or PARTS:
            self._parts[name]()

    @property
    def _trees(self) -> list[Path]:
        return [*self.table.trees.values()]

    def _counts(self) -> None:
        n_jobs = self.extent.counted_jobs
        results = [counts.measure(tree, n_jobs) for tree in self._trees]
        services = sorted({service for result in results for service in result.services()})
        for what, title in (
            ("statements", "SQL statements a job"),
            ("transactions", "SQL transactions a job"),
            ("pings", "tests of a database connection a job"),
            ("requests", "S3 requests a job"),
            ("commands", "Redis commands a job"),
        ):
            self.table.add(f"{title}, median", [result.median(what) for result in results])
            self.table.add("    mean", [result.mean(what) for result in results])
            kinds = {"requests": "s3 ", "commands": "redis "}.get(what)
            for service in services:
                values = [result.median_of(what, service) for result in results]
                if max(values) > 0:
                    self.table.add(f"    {service}", values)
            if kinds:
                self._add_kinds(results, kinds)
        if self.statements:
            self.statements.write_text(
                "\n".join(
                    _listing(f"{name}: {result.n_jobs} jobs", result.texts, result.n_jobs)
                    for name, result in zip(self.table.trees, results, strict=True)
                )
            )

    def _add_kinds(self, results: Sequence[counts.Counts], prefix: str) -> None:
        for kind in sorted({kind for result in results for kind in result.kinds(prefix)}):
            values = [result.median(kind) for result in results]
            if max(values) > 0:
                self.table.add(f"    {kind.removeprefix(prefix)}", values)

    def _latency(self) -> None:
        results = latency.measure(self._trees, self.extent.timed_jobs)
        self.table.add("CPU of the platform, ms a job", [1000 * r.cpu_s.total() for r in results])
        for service in sorted({service for result in results for service in result.cpu_s}):
            self.table.add(f"    {service}", [1000 * result.cpu_s[service] for result in results])
        for share, title in ((0.5, "p50"), (0.99, "p99")):
            values = [1000 * result.quantile_s(share) for result in results]
            self.table.add(f"POST to result seen, idle platform, ms, {title}", values, 0)

    def _throughput(self) -> None:
        n_clients, seconds = self.extent.n_clients, self.extent.seconds
        results = [throughput.measure(tree, n_clients, seconds) for tree in self._trees]
        self.table.add(
            f"jobs a second, {n_clients} clients for {seconds:g} s",
            [result.jobs_per_s for result in results],
        )
        first, last = "first_quarter_s", "last_quarter_s"
        for name, title in ((first, "first"), (last, "last")):
            values = [1000 * getattr(result, name) for result in results]
            self.table.add(f"    ms a job, {title} quarter of the time", values, 0)
        self.table.add("    CPU of the platform, ms a job", [1000 * r.cpu_s for r in results])

    def _chunks(self) -> None:
        runs = []
        for tree in self._trees:
            with scaling.workload(tree, self.extent.window_s) as workload:
                runs.append(workload.transcribe_file(self.extent.n_chunks, 4, 0.0))
        title = f"chunks a second of one file, 4 workers, {self.extent.window_s:g} s each"
        self.table.add(title, [run.chunks_per_s for run in runs])

    def _scaling(self) -> None:
        extent = self.extent
        of_file: dict[int, list[scaling.Run]] = {n: [] for n in N_WORKERS}
        of_jobs: dict[int, list[scaling.Run]] = {n: [] for n in N_WORKERS}
        for tree in self._trees:
            with scaling.workload(tree, extent.window_s) as workload:
                for n in N_WORKERS:
                    run = workload.transcribe_file(extent.file_chunks, n, extent.batch_s)
                    of_file[n].append(run)
                    of_jobs[n].append(
                        workload.transcribe_jobs(extent.short_jobs, n, extent.batch_s)
                    )
        for what, runs in (
            (f"one file of {extent.file_chunks} chunks", of_file),
            (f"{extent.short_jobs} jobs of one chunk", of_jobs),
        ):
            self.table.add(
                f"{what}, batches of {extent.batch_s:g} s: s, 1 worker",
                [run.seconds for run in runs[1]],
            )
            for n in N_WORKERS[1:]:
                gains = [
                    run.chunks_per_s / alone.chunks_per_s
                    for run, alone in zip(runs[n], runs[1], strict=True)
                ]
                self.table.add(f"    speed-up with {n} workers", gains, 2)

    def _claims(self) -> None:
        results = [claims.measure(tree) for tree in self._trees]
        for name, title, digits in (
            ("execution_ms", "claim, Postgres' ms", 3),
            ("buffers", "claim, pages", 0),
            ("call_ms", "claim, the whole call's ms", 1),
        ):
            few = [result and getattr(result[0], name) for result in results]
            many = [result and getattr(result[1], name) for result in results]
            self.table.add(f"{title}, {claims.FEW} steps wait", few, digits)
            self.table.add(
                f"    {claims.MANY} steps of {claims.MANY_TENANTS} tenants", many, digits
            )
            times = [m / f if m and f else None for m, f in zip(many, few, strict=True)]
            self.table.add("    as many times the first", times, 2)

    def _startup(self) -> None:
        warm = [statistics.median(startup.measure(tree)[1]) for tree in self._trees]
        self.table.add("warm `longhand up` to ready, s", warm)


def _listing(title: str, texts: Counter[tuple[str, str]], n_jobs: int) -> str:
    lines = [f"== {title}"]
    for service in sorted({service for service, _ in texts}):
        lines.append(f"-- {service}, times a job")
        sent = [(n, text) for (name, text), n in texts.most_common() if name == service]
        lines += [f"{n / n_jobs:6.2f}  {text}" for n, text in sent]
    return "\n".join(lines) + "\n"


def run(
    before: Path | None, parts: Sequence[str], extent: Extent, statements: Path | None = None
) -> None:
    """Print the table of this tree, and of another beside it."""
    trees = {"before": before.resolve()} if before else {}
    trees["now"] = startup.ROOT
    Measurement(Table(trees), extent, statements).run(parts)
