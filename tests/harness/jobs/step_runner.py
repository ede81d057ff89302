"""A certain step, claimed out of turn and done by the real runner."""

from harness.jobs.job_store import claim_step
from shared.store.states import StepKind
from worker.process.runtime import Runtime
from worker.steps.run import Handler, one_by_one
from worker.steps.transcribe import infer_steps


def run_claimed(runtime: Runtime, step_id: int, handler: Handler | None = None) -> None:
    """Do a step with its handler, or as a model worker does; nothing where it cannot be claimed."""
    claimed = claim_step(runtime.database, step_id, owner=runtime.owner)
    if claimed is None:
        return
    work = infer_steps if handler is None else one_by_one({StepKind(claimed.kind): handler})
    with runtime.heartbeat.hold([claimed]) as leases:
        work(runtime, leases)
