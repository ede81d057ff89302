"""The job store's writing side: the sole writer of job and step state.

Every function is one transaction and one named transition. Times are the database's. Rows are
locked in one order, job before step, so that transitions of one job queue up, never deadlock.

A worker's writes are fenced: they name the step and the epoch of the claim they belong to, and
change nothing (``LeaseLost``) once the step was claimed again, its lease was reaped or its job
ended.

All functions raise ``DatabaseUnavailable`` when Postgres cannot be reached; nothing was written
then, except that after its subclass ``CommitUncertain`` only Postgres knows. Every transition is
safe to find already made.
"""

from shared.store.new_steps import NewChunk
from shared.store.steps.claims import Claim, claim, renew
from shared.store.steps.completion import (
    complete_detect,
    complete_finish,
    complete_prepare,
    complete_transcribe,
)
from shared.store.steps.plan import add_chunks, add_detect, release_chunks
from shared.store.steps.unfinished import fail, reap, release, retry

__all__ = [
    "Claim",
    "NewChunk",
    "add_chunks",
    "add_detect",
    "claim",
    "complete_detect",
    "complete_finish",
    "complete_prepare",
    "complete_transcribe",
    "fail",
    "reap",
    "release",
    "release_chunks",
    "renew",
    "retry",
]
