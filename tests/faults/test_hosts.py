"""Workers on other hosts than Postgres, Redis and S3, and a network between them that fails.

The servers, the API and beat are on one host (``hosts``), a CPU and a model worker on each
of two others; that which delivers webhooks is on the first of these. ``make test`` attacks the
network in each way once, ``make soak`` at random; SOAK_NETWORK_JOBS and SOAK_SEED change how much.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from harness.faults.checker import check
from harness.faults.fault_stack import (
    FaultStack,
    Hosts,
    OpenFault,
    add_everything,
    fault_stack,
    now,
)
from harness.faults.history import pid_of
from harness.faults.nemesis import (
    Attack,
    count_active,
    kill_beat,
    kill_cpu_child,
    kill_model,
    kill_redis,
    run,
)
from harness.faults.readings import read_history, table
from harness.faults.submitters import Crowd, make_works
from harness.peers.moods import moods
from harness.programs import forked
from harness.servers.hosts import Host, NoHosts, Way, Wire, connections_in_doubt, hosts
from shared.infra.database import begin

JOBS = 80
SEED = 5
LEASE_S = 6.0
"""A worker loses nothing where a busy machine has it stand still for seconds: that is no fault."""
RECOVERY_S = 18.0
"""As without a network: docs/faults.md."""
BACK_S = 20.0
"""As after an outage of Redis: so long after the network is back a worker claims steps again."""
CUT_S = LEASE_S + 2.0
_CATCH_S = 3.0
"""How long to wait for a worker to hold a step before its host is cut off anyway."""
MOST_DELAY_S = 0.1
"""A connection to Postgres takes some six round trips, for which a worker waits 2 s."""
SOAK_JOBS = int(os.environ.get("SOAK_NETWORK_JOBS", "600"))
SOAK_SEED = int(os.environ.get("SOAK_SEED", str(time.time_ns() % 10**6)))
SOAK_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Far:
    """A host of workers and the wire that leads to it."""

    host: Host
    wire: Wire
    services: tuple[str, ...]

    def pids(self, stack: FaultStack) -> frozenset[int]:
        """Return the processes that run on it."""
        return frozenset().union(*(stack.services[name].pids() for name in self.services))


@dataclass(slots=True)
class Network:
    """The attacks on the network, and how soon work went on after each."""

    far: Sequence[Far]
    back_s: list[float]

    def partition(self, *, to: Sequence[int], ways: Sequence[str], seconds: float) -> Attack:
        """Lose every packet ``out`` to hosts, ``back`` from them, or both; then none."""

        def attack(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
            cut = [self.far[number] for number in to]
            pids = self._cut(stack, cut, ways)
            # While a host is left, what the others held is claimed there.
            kind = f"partition of {len(cut)} ({' and '.join(ways)})"
            fault = OpenFault(kind, now(), pids, kills=len(cut) < len(self.far), delays=True)
            stack.pause(seconds)
            for each in cut:
                each.wire.mend()
            self._see_it_back(stack, crowd, cut)
            stack.until(fault, lambda: not self._in_doubt(stack))

        return attack

    def weather(self, *, delay_s: float, loss: float, seconds: float) -> Attack:
        """Delay every packet in both directions, and lose some."""

        def attack(stack: FaultStack, crowd: Crowd, rng: random.Random) -> None:
            pids = frozenset().union(*(each.pids(stack) for each in self.far))
            fault = OpenFault("latency and loss", now(), pids, delays=True)
            for each in self.far:
                each.wire.out = each.wire.back = Way(delay_s, loss)
            stack.pause(seconds)
            self._see_it_back(stack, crowd, self.far)
            for each in self.far:
                each.wire.mend()
            stack.until(fault, lambda: not self._in_doubt(stack))

        return attack

    def _cut(self, stack: FaultStack, cut: Sequence[Far], ways: Sequence[str]) -> frozenset[int]:
        """Cut the wires at a moment when the hosts' processes, which it returns, hold steps."""
        deadline = time.monotonic() + _CATCH_S
        while True:
            pids = frozenset().union(*(each.pids(stack) for each in cut))
            for each in cut:
                for way in ways:
                    setattr(each.wire, way, Way(loss=1.0))
            if stack.held_by(pids) or time.monotonic() > deadline:
                return pids
            for each in cut:
                each.wire.mend()
            stack.pause(0.05)

    def _see_it_back(self, stack: FaultStack, crowd: Crowd, cut: Sequence[Far]) -> None:
        """Wait until each worker of these hosts has claimed a step; note how long it took.

        Once all files are submitted and all jobs have ended there is nothing to claim.
        """
        since, began = now(), time.monotonic()
        missing = {name for each in cut for name in each.services if name != "deliver"}
        while missing := {name for name in missing if not _claimed(stack, name, since)}:
            if crowd.is_done and not count_active(stack):
                return
            assert time.monotonic() < began + 2 * BACK_S, f"{missing} claim nothing"
            # There must be something to claim.
            crowd.allow(1)
            stack.pause(0.5)
        self.back_s.append(time.monotonic() - began)

    def _in_doubt(self, stack: FaultStack) -> int:
        """Return how many connections have not noticed yet that packets pass again."""
        there = [stack.services[each.services[0]].pid for each in self.far]
        with suppress(FileNotFoundError):  # one is being started again
            return sum(map(connections_in_doubt, [os.getpid(), *there]))
        return 1


def _claimed(stack: FaultStack, name: str, since: datetime) -> bool:
    with begin(stack.database) as connection:
        owners = connection.scalars(
            text("SELECT DISTINCT owner FROM test_history WHERE state = 'running' AND at > :since"),
            {"since": since},
        ).all()
    pids = stack.services[name].pids()
    return any(owner is not None and pid_of(owner) in pids for owner in owners)


@contextmanager
def network(rng: random.Random) -> Iterator[tuple[Host, Network, dict[str, Host]]]:
    """Make the hosts; yield that of the servers, the others, and what runs on which of them."""
    forked.start_server()  # on no host of this test's
    try:
        with hosts(2, rng) as (centre, wired), centre.inside():
            far = [
                Far(host, wire, (f"cpu-{number}", f"model-{number}"))
                for number, (host, wire) in enumerate(wired, start=1)
            ]
            far[0] = replace(far[0], services=(*far[0].services, "deliver"))
            places = {name: each.host for each in far for name in each.services}
            yield centre, Network(far, []), places
    except NoHosts as error:
        pytest.skip(f"no network namespaces: {error}")


def attack(
    path: Path,
    rng: random.Random,
    drawn: Callable[[Network], Iterable[Attack]],
    *,
    n_jobs: int,
    files_per_attack: int,
    settle_s: float,
) -> tuple[str, list[str]]:
    """Run a platform under attack; return what happened, and what was wrong with it."""
    with (
        network(rng) as (centre, between, places),
        moods(centre.address) as tell,
        fault_stack(
            path,
            Hosts(centre, places),
            lease_s=LEASE_S,
            heartbeat_s=0.5,
            sweep_s=0.5,
            inference_limit_s=LEASE_S + 3.0,
            max_attempts=6,
            retry_base_s=1.0,
        ) as stack,
    ):
        add_everything(stack, pace_s=0.3)
        # What receivers do wrong is not the question here.
        unkind = ("slow", "hanging", "refusing", "redirecting")
        all_kind = replace(tell, **dict.fromkeys(unkind, tell.kind))
        crowd = Crowd(stack.url, make_works(rng, n_jobs, crashing=0, hanging=0, tell=all_kind), rng)
        began = time.monotonic()
        run(
            stack,
            crowd,
            drawn(between),
            rng,
            files_per_attack=files_per_attack,
            most_active=n_jobs,
            breath_s=0.5,
            settle_s=settle_s,
            deaf=frozenset(),
        )
        took_s = time.monotonic() - began
        history = read_history(
            stack.database,
            recordings=crowd.recordings,
            faults=stack.faults,
            accepted=crowd.accepted,
            canceled=crowd.canceled,
            received=tell.taken(),
        )
        refused = stack.stale_writes_refused()
    verdict = check(history, lease_s=LEASE_S, recovery_s=RECOVERY_S)
    wrong = [*crowd.errors, *map(str, verdict.violations)]
    wrong += [f"claimed nothing for {late_s:.1f} s" for late_s in between.back_s if late_s > BACK_S]
    report = table(history, verdict, stale_writes_refused=refused)
    back = ", ".join(f"{each:.1f}" for each in between.back_s)
    seen = f"all workers of the hosts claim again, seconds after each attack: {back}"
    return "\n".join([report, seen, *wrong, f"{took_s:.0f} s"]), wrong


@pytest.mark.timeout(600)
def test_no_job_is_lost_or_done_twice_while_the_network_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def each_once(between: Network) -> Iterable[Attack]:
        yield between.partition(to=[0], ways=["out", "back"], seconds=CUT_S)
        yield between.weather(delay_s=0.05, loss=0.05, seconds=1)
        yield between.partition(to=[0, 1], ways=["out"], seconds=CUT_S)

    report, wrong = attack(
        tmp_path,
        random.Random(SEED),
        each_once,
        n_jobs=JOBS,
        files_per_attack=6,
        settle_s=180,
    )
    with capsys.disabled():
        print(f"\n{report}")  # noqa: T201
    assert wrong == [], report


@pytest.mark.soak
@pytest.mark.timeout(SOAK_LIMIT_S + 1200)
def test_no_job_is_lost_or_done_twice_while_the_network_fails_at_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SOAK_SEED)
    with capsys.disabled():
        print(f"\nseed {SOAK_SEED}")  # noqa: T201

    def at_random(between: Network) -> Iterator[Attack]:
        deadline = time.monotonic() + SOAK_LIMIT_S
        while time.monotonic() < deadline:
            yield rng.choice(
                [
                    between.partition(
                        to=rng.choice([[0], [1], [0, 1]]),
                        ways=rng.choice([["out"], ["back"], ["out", "back"]]),
                        seconds=rng.choice([1.0, CUT_S, 4 * CUT_S]),
                    ),
                    between.weather(
                        delay_s=rng.uniform(0, MOST_DELAY_S),
                        loss=rng.uniform(0, 0.05),
                        seconds=rng.uniform(3, 15),
                    ),
                    rng.choice([kill_beat, kill_cpu_child, kill_model, kill_redis]),
                ]
            )

    report, wrong = attack(
        tmp_path, rng, at_random, n_jobs=SOAK_JOBS, files_per_attack=20, settle_s=300
    )
    with capsys.disabled():
        print(report)  # noqa: T201
    assert wrong == []
