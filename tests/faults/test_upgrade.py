"""The schema is migrated while older and newer processes work and die: nothing is lost.

The processes of this version go on, and start again, on the schema of the next one. A worker of the
next version waits for it. ``make soak`` does the same among attacks at random.
"""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from harness.database.newer_schema import NEWEST, newer_migrations
from harness.faults.checker import check
from harness.faults.fault_stack import FaultStack, add_everything, fault_stack
from harness.faults.nemesis import (
    SERVER_ATTACKS,
    WORKER_ATTACKS,
    Attack,
    kill_api,
    kill_beat,
    kill_cpu_parent,
    kill_model,
    run,
    share,
    stop_model,
)
from harness.faults.readings import read_history, table
from harness.faults.submitters import Crowd, make_works
from harness.peers.moods import moods
from shared.infra import database, schema

LEASE_S = 6.0
"""A worker loses nothing where a busy machine has it stand still for seconds: that is no fault."""
RECOVERY_S = 18.0
LONGEST_ANSWER_S = 10.0
"""A statement queues behind a migration for a second; the rest is what a busy machine may add."""


@dataclass(slots=True)
class Upgrade:
    """The attack that migrates, and what it saw."""

    migrations: Path
    answers: list[tuple[int, float]] = field(default_factory=list)
    """Status and seconds of requests that were made meanwhile."""
    retried: int = 0

    def __call__(self, stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
        """Migrate, while a transaction is in the way at first and a model worker is killed."""
        failures: list[Exception] = []

        def migrate() -> None:
            try:
                schema.migrate(stack.settings)
            except Exception as error:  # noqa: BLE001 - the main thread tells it
                failures.append(error)

        newer = stack.add_worker(
            "newer", "cpu", "--concurrency", "1", FAULTY_SCHEMA=str(self.migrations)
        )
        stack.wait(lambda: f"this version needs {NEWEST}" in newer.child.log.read_text())
        started = newer.pid
        with pytest.MonkeyPatch.context() as patched, self._asked(stack):
            patched.setattr(schema, "MIGRATIONS", self.migrations)
            patched.setattr(schema.log, "warning", self._note)
            migration = threading.Thread(target=migrate)
            with database.begin(stack.database) as in_the_way:
                in_the_way.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                in_the_way.execute(text("SELECT FROM jobs LIMIT 1"))
                migration.start()
                stack.wait(lambda: self.retried or failures)
            kill_model(stack, crowd, rng)
            stack.wait(lambda: not migration.is_alive(), within_s=100)
        assert failures == []
        with database.begin(stack.database) as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version"))
            assert revision.scalar_one() == NEWEST
        stack.wait(lambda: newer.pid in stack.ready_pids())
        assert newer.pid == started

    def _note(self, *_: object) -> None:
        self.retried += 1

    @contextmanager
    def _asked(self, stack: FaultStack) -> Iterator[None]:
        """Ask the API all the time."""
        over = threading.Event()

        def ask() -> None:
            with httpx.Client(base_url=stack.url, timeout=60) as client:
                while not over.wait(0.1):
                    began = time.monotonic()
                    status = client.get("/jobs", params={"limit": 1}).status_code
                    self.answers.append((status, time.monotonic() - began))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)


def attack(
    path: Path, rng: random.Random, before: Sequence[Attack], after: Sequence[Attack], n_jobs: int
) -> tuple[str, list[str]]:
    """Upgrade between attacks; return what happened, and what was wrong with it."""
    upgrade = Upgrade(newer_migrations(path))
    attacks = [*before, upgrade, *after]
    with (
        moods() as tell,
        fault_stack(
            path,
            lease_s=LEASE_S,
            heartbeat_s=0.5,
            sweep_s=0.5,
            inference_limit_s=LEASE_S + 3.0,
            max_attempts=6,
            retry_base_s=1.0,
        ) as stack,
    ):
        add_everything(stack, pace_s=0.05)
        crowd = Crowd(stack.url, make_works(rng, n_jobs, crashing=0, hanging=0, tell=tell), rng)
        run(
            stack,
            crowd,
            attacks,
            rng,
            files_per_attack=share(n_jobs, len(attacks)),
            most_active=n_jobs,
            breath_s=0.5,
            settle_s=120,
            deaf=tell.deaf,
        )
        history = read_history(
            stack.database,
            recordings=crowd.recordings,
            faults=stack.faults,
            accepted=crowd.accepted,
            canceled=crowd.canceled,
            received=tell.taken(),
            deaf=tell.deaf,
        )
        refused = stack.stale_writes_refused()
        # Those that were killed afterwards came back, of the older version.
        pids = {service.pid for service in stack.services.values()}
        stack.wait(lambda: pids <= stack.ready_pids())
    verdict = check(history, lease_s=LEASE_S, recovery_s=RECOVERY_S)
    wrong = [*crowd.errors, *map(str, verdict.violations)]
    wrong += [f"answered {status}" for status, _ in upgrade.answers if status != 200]
    slowest = max(seconds for _, seconds in upgrade.answers)
    if slowest > LONGEST_ANSWER_S:
        wrong.append(f"an answer took {slowest:.1f} s")
    seen = (
        f"{len(upgrade.answers)} requests while the schema was migrated, the slowest "
        f"{slowest:.2f} s; the migration was tried again {upgrade.retried} times"
    )
    report = table(history, verdict, stale_writes_refused=refused)
    return "\n".join([report, seen, *wrong]), wrong


@pytest.mark.timeout(600)
def test_no_job_is_lost_while_the_schema_is_migrated_and_workers_die(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, wrong = attack(
        tmp_path,
        random.Random(11),
        before=(kill_cpu_parent,),
        after=(kill_api, kill_beat, stop_model, kill_cpu_parent),
        n_jobs=18,
    )
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert wrong == [], report


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_job_is_lost_while_the_schema_is_migrated_under_all_attacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(time.time_ns())
    every = [*WORKER_ATTACKS, *SERVER_ATTACKS] * 5
    rng.shuffle(every)
    half = len(every) // 2
    report, wrong = attack(tmp_path, rng, every[:half], every[half:], n_jobs=800)
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert wrong == []
