"""The checker can fail: it finds the writes of a stale worker that has no fence.

Both tests do the same with the same processes, but for the fence of one of them. Its chunks are
taken from it while it is frozen, another worker does them, and then it wakes.
"""

import random
import signal
from pathlib import Path
from uuid import UUID

import httpx

from harness.faults.checker import Verdict, check
from harness.faults.fault_stack import FaultStack, OpenFault, fault_stack, now
from harness.faults.readings import read_history
from harness.faults.replay import Rule
from harness.faults.submitters import Crowd, Work
from harness.jobs.job_store import end_leases
from shared.store.jobs.read import get_job

LEASE_S = 20.0
"""No pause of another worker is as long; the test ends those of the frozen one."""


def wake_a_stale_worker(path: Path, *, fenced: bool) -> Verdict:
    """Let a worker lose a step in its sleep, and give its result when the job has succeeded."""
    gate = path / "gate"
    with fault_stack(path, lease_s=LEASE_S, heartbeat_s=0.5, sweep_s=0.5) as stack:
        crowd = Crowd(stack.url, [], random.Random(0))
        stack.add_worker("beat", "beat")
        stack.add_worker("cpu", "cpu", "--concurrency", "1")
        unfenced = {} if fenced else {"FAULTY_UNFENCED": "1"}
        stale = stack.add_worker(
            "stale", "model", "--model", "oracle", FAULTY_GATE=str(gate), **unfenced
        )
        stack.wait(lambda: stale.pid in stack.ready_pids())
        gate.touch()
        with httpx.Client(base_url=stack.url, timeout=60) as client:
            job_id = crowd.submit(client, Work(tuple(range(1, 200))))
        # A batch that the engine has begun: what waits for its batch is dropped with its lease.
        stack.wait(Path(f"{gate}.reached").exists)
        frozen = OpenFault("pause", now(), frozenset({stale.pid}), kills=True, noticed=True)
        stale.child.send(signal.SIGSTOP)
        end_leases(stack.database, stack.held_by(stale.pids()))
        stack.add_worker("fresh", "model", "--model", "oracle")
        stack.wait(lambda: get_job(stack.database, "default", job_id).state == "succeeded")
        gate.unlink()
        stale.child.send(signal.SIGCONT)
        if fenced:
            stack.wait(lambda: "its result is dropped" in stale.child.log.read_text())
        else:
            stack.wait(lambda: counts_too_many_chunks(stack, job_id))
        stack.faults.append(frozen.over())
        history = read_history(
            stack.database,
            recordings=crowd.recordings,
            faults=stack.faults,
            accepted=crowd.accepted,
            canceled=crowd.canceled,
        )
    return check(history, lease_s=LEASE_S, recovery_s=60)


def counts_too_many_chunks(stack: FaultStack, job_id: UUID) -> bool:
    job = get_job(stack.database, "default", job_id)
    return job.chunks_done > job.chunks_total


def test_a_stale_worker_writes_nothing(tmp_path: Path) -> None:
    assert wake_a_stale_worker(tmp_path, fenced=True).violations == []


def test_without_the_fence_the_checker_finds_the_stale_workers_writes(tmp_path: Path) -> None:
    verdict = wake_a_stale_worker(tmp_path, fenced=False)
    found = {violation.rule for violation in verdict.violations}
    assert {Rule.STALE_WRITE, Rule.AFTER_THE_END, Rule.ROWS_DISAGREE} <= found
