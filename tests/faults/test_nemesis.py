"""The whole platform under attack: nothing is lost, nothing is done twice.

``make test`` runs every attack once, on two jobs each. ``make soak`` draws attacks at random until
10,000 jobs are through; SOAK_JOBS, SOAK_SEED and SOAK_LIMIT_S (seconds after which no more are
submitted) change it. Both print what they did.
"""

import os
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from harness.faults.checker import check
from harness.faults.fault_stack import add_everything, fault_stack
from harness.faults.nemesis import (
    SERVER_ATTACKS,
    WORKER_ATTACKS,
    Attack,
    run,
    s3_answers_500,
    share,
)
from harness.faults.readings import read_history, table
from harness.faults.submitters import Crowd, make_works
from harness.peers.moods import moods

JOBS = 2 * (len(WORKER_ATTACKS) + len(SERVER_ATTACKS) + 1)
SEED = 4
LEASE_S = 6.0
"""A worker loses nothing where a busy machine has it stand still for seconds: that is no fault."""
RECOVERY_S = 18.0
"""Lease and sweep take 6.5 s here; the rest is what a busy machine with few cores may add."""
SOAK_LEASE_S = 3.0
SOAK_RECOVERY_S = 15.0
SOAK_JOBS = int(os.environ.get("SOAK_JOBS", "10000"))
SOAK_SEED = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 10**6)))
SOAK_LIMIT_S = float(os.environ.get("SOAK_LIMIT_S", "5400"))


def attack(
    path: Path,
    attacks: Iterable[Attack],
    rng: random.Random,
    *,
    n_jobs: int,
    files_per_attack: int,
    most_active: int,
    breath_s: float,
    crashing: int,
    hanging: int,
    settle_s: float,
    lease_s: float,
    recovery_s: float,
    **changes: object,
) -> tuple[str, list[str]]:
    """Run a platform under attack; return what happened, and what was wrong with it."""
    with (
        moods() as tell,
        fault_stack(
            path,
            lease_s=lease_s,
            heartbeat_s=0.5,
            sweep_s=0.5,
            # Longer than a pause: a worker that wakes must not take its sleep for a hung engine.
            inference_limit_s=lease_s + 3.0,
            **changes,
        ) as stack,
    ):
        add_everything(stack, pace_s=0.05)
        works = make_works(rng, n_jobs, crashing=crashing, hanging=hanging, tell=tell)
        crowd = Crowd(stack.url, works, rng)
        began = time.monotonic()
        run(
            stack,
            crowd,
            attacks,
            rng,
            files_per_attack=files_per_attack,
            most_active=most_active,
            breath_s=breath_s,
            settle_s=settle_s,
            deaf=tell.deaf,
        )
        took_s = time.monotonic() - began
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
    verdict = check(history, lease_s=lease_s, recovery_s=recovery_s)
    wrong = [*crowd.errors, *map(str, verdict.violations)]
    report = table(history, verdict, stale_writes_refused=refused)
    return "\n".join([report, *wrong, f"{took_s:.0f} s"]), wrong


@pytest.mark.timeout(600)
def test_no_job_is_lost_or_done_twice_whatever_is_attacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    attacks = [*WORKER_ATTACKS, *SERVER_ATTACKS, s3_answers_500(3)]
    rng.shuffle(attacks)
    report, wrong = attack(
        tmp_path,
        attacks,
        rng,
        n_jobs=JOBS,
        files_per_attack=share(JOBS, len(attacks)),
        most_active=JOBS,
        breath_s=0.5,
        crashing=2,
        hanging=1,
        settle_s=180,
        lease_s=LEASE_S,
        recovery_s=RECOVERY_S,
        # Poison is through in time.
        max_attempts=4,
        retry_base_s=1.0,
    )
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert wrong == [], report


@pytest.mark.soak
@pytest.mark.timeout(SOAK_LIMIT_S + 1800)
def test_no_job_is_lost_or_done_twice_under_attacks_at_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SOAK_SEED)
    with capsys.disabled():
        print(f"\nseed {SOAK_SEED}")  # noqa: T201
    report, wrong = attack(
        tmp_path,
        drawn(rng),
        rng,
        n_jobs=SOAK_JOBS,
        files_per_attack=min(60, share(SOAK_JOBS, 10)),
        most_active=300,
        breath_s=4,
        crashing=max(2, SOAK_JOBS // 1000),
        hanging=max(1, SOAK_JOBS // 2000),
        settle_s=900,
        lease_s=SOAK_LEASE_S,
        recovery_s=SOAK_RECOVERY_S,
    )
    with capsys.disabled():
        print(report)  # noqa: T201
    assert wrong == []


def drawn(rng: random.Random) -> Iterator[Attack]:
    """Yield attacks at random, until the time is up."""
    deadline = time.monotonic() + SOAK_LIMIT_S
    while time.monotonic() < deadline:
        yield rng.choice([*WORKER_ATTACKS, *SERVER_ATTACKS, s3_answers_500(20)])
