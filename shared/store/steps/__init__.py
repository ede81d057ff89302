"""Steps: claimed, completed, given back; planned while ``prepare`` runs.

Every function is one transaction and one named transition. Times are the database's. Rows are
locked in one order, job before step, so that transitions of one job queue up and never deadlock; a
claim locks no job, and waits for nobody.

A worker's writes are fenced. They name the step and the epoch of the claim they belong to, and
change nothing (``LeaseLost``) once the step was claimed again, its lease was reaped or its job
ended.

All functions raise ``DatabaseUnavailable`` when Postgres cannot be reached; nothing was written
then, except that after its subclass ``CommitUncertain`` only Postgres knows. Every transition is
safe to find already made.
"""

from shared.store.steps.claims import Claim, Taken, claim_next, expire_leases, renew
from shared.store.steps.completion import (
    ChunkResult,
    Folded,
    complete_chunks,
    complete_detect,
    complete_finish,
    complete_only_chunk,
)
from shared.store.steps.plan import add_chunks, add_detect, complete_prepare
from shared.store.steps.unfinished import fail, reap, release, retry
from shared.store.successors import NewStep

__all__ = [
    "ChunkResult",
    "Claim",
    "Folded",
    "NewStep",
    "Taken",
    "add_chunks",
    "add_detect",
    "claim_next",
    "complete_chunks",
    "complete_detect",
    "complete_finish",
    "complete_only_chunk",
    "complete_prepare",
    "expire_leases",
    "fail",
    "reap",
    "release",
    "renew",
    "retry",
]
