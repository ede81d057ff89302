"""What a job with one chunk asks of Postgres, Redis and the S3 server, service by service."""

import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from bench.cost.client import Client, short_recording
from bench.cost.redis_commands import WAITS, CommandLog, command_log
from bench.cost.statements import Statement, StatementLog, statement_log
from bench.cost.storage_requests import StorageLog, platform_behind_proxy
from bench.platform import Platform

WARM_UP = 5
"""Jobs before those that count: connections are opened, code is loaded, plans are cached."""
SETTLE_S = 0.5
"""After a job's end: what is done for it later, such as the removal of its audio, counts, too."""
POLL_S = 0.02

Sample = Counter[tuple[str, str]]
"""(what, service) -> how many."""


@dataclass(slots=True)
class Counts:
    """What was counted of one tree."""

    jobs: list[Sample] = field(default_factory=list)
    """One sample a job, from its POST until SETTLE_S after its end."""
    jobs_s: float = 0.0
    """Seconds that the samples of the jobs took together."""
    idle: list[Sample] = field(default_factory=list)
    """Samples of the same platform without a job, as long as those of the jobs in the mean."""
    idle_s: float = 0.0
    texts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(service, text) of every statement sent for the jobs -> how often."""

    def median(self, what: str) -> float:
        """Return the sum of the services' medians."""
        return sum(self.median_of(what, service) for service in self.services())

    def median_of(self, what: str, service: str) -> float:
        """Return the median of the jobs' samples less that of the idle ones, of one service.

        What an idle service sends every few seconds is in few samples and in neither median. On a
        busy machine samples take longer, and the medians of a service that does nothing for a job
        differ by chance: less than nothing counts as nothing.
        """
        of_job, of_idle = (
            statistics.median(sample[what, service] for sample in samples)
            for samples in (self.jobs, self.idle)
        )
        return max(0.0, of_job - of_idle)

    def mean(self, what: str) -> float:
        """Return the mean of the jobs' samples less what an idle platform sends in their time."""
        of_jobs, of_idle = (
            sum(n for sample in samples for (name, _), n in sample.items() if name == what)
            for samples in (self.jobs, self.idle)
        )
        return (of_jobs - of_idle * self.jobs_s / self.idle_s) / self.n_jobs

    @property
    def n_jobs(self) -> int:
        """How many jobs were counted."""
        return len(self.jobs)

    def services(self) -> list[str]:
        """Return who was counted, by name."""
        return sorted({service for sample in self.jobs for _, service in sample})

    def kinds(self, prefix: str) -> list[str]:
        """Return what was counted and begins so."""
        found = {what for sample in self.jobs for what, _ in sample if what.startswith(prefix)}
        return sorted(found)


@dataclass(slots=True)
class Meter:
    """The three logs of one platform, and how far they are read."""

    platform: Platform
    statements: StatementLog
    commands: CommandLog
    storage: StorageLog
    ignored_backend: int
    """Of the connection by which we watch the job."""

    def read(self) -> tuple[Sample, list[Statement]]:
        """Return what was sent since the last call."""
        sample: Sample = Counter()
        sent = [s for s in self.statements.read() if s.backend != self.ignored_backend]
        for service, count in self.statements.count(sent).items():
            sample["statements", service] += count.statements
            sample["transactions", service] += count.transactions
            sample["pings", service] += count.pings
        for command in self.commands.read():
            if command.name not in WAITS:
                sample["commands", command.service] += 1
                sample[f"redis {command.name}", command.service] += 1
        for service, verb in self.storage.read(self.platform):
            sample["requests", service] += 1
            sample[f"s3 {verb}", service] += 1
        return sample, sent


def measure(tree: Path, n_jobs: int) -> Counts:
    """Send jobs one after another to a platform of ``tree``, and count what they ask for.

    As many samples of the idle platform follow. Nobody asks the API for the result: the database is
    watched for the job's end.
    """
    counts = Counts()
    with (
        tempfile.TemporaryDirectory() as folder,
        platform_behind_proxy(tree, Path(folder), "oracle") as (running, storage),
        running.database() as connection,
        Client(running.url) as client,
    ):
        for _ in range(WARM_UP):
            _transcribe(client, connection)
        time.sleep(SETTLE_S)
        with statement_log(running) as statements, command_log(running) as commands:
            backend = connection.info.backend_pid
            meter = Meter(running, statements, commands, storage, backend)
            meter.read()
            began = time.monotonic()
            for _ in range(n_jobs):
                _transcribe(client, connection)
                time.sleep(SETTLE_S)
                sample, sent = meter.read()
                counts.jobs.append(sample)
                counts.texts.update((statement.service, statement.text) for statement in sent)
            counts.jobs_s = time.monotonic() - began
            began = time.monotonic()
            for _ in range(n_jobs):
                time.sleep(counts.jobs_s / n_jobs)
                counts.idle.append(meter.read()[0])
            counts.idle_s = time.monotonic() - began
    return counts


def _transcribe(client: Client, connection: psycopg.Connection) -> None:
    job_id = client.post(short_recording())
    query = "SELECT state FROM jobs WHERE id = %s"
    while (row := connection.execute(query, [job_id]).fetchone()) != ("succeeded",):
        if row is None or row[0] not in ("queued", "running"):
            raise SystemExit(f"bench: job {job_id} has not succeeded: {row}")
        time.sleep(POLL_S)
