"""Steps: planned, claimed, completed, given back.

Every function is one transaction and one named transition. Rows are locked in one order, job before
step, so transitions of one job queue up and never deadlock. A claim locks no job and never waits.

A worker's writes are fenced: they name the step and the epoch of their claim. Every function that
is given a claim raises ``LeaseLost``, and changes nothing, once the step was claimed again, its
lease was reaped or its job ended.
"""

from shared.store.steps.claims import Claim, Taken, claim_next, expire_leases, is_any_due, renew
from shared.store.steps.completion import (
    ChunkResult,
    Folded,
    complete_chunks,
    complete_detect,
    complete_diarize,
    complete_finish,
    complete_listen,
    complete_only_chunk,
    has_audio,
)
from shared.store.steps.diarize import SpanResult, span_results
from shared.store.steps.fetch import Fetched, complete_fetch, note_fetched
from shared.store.steps.plan import add_chunks, add_detect, complete_prepare, move_to_large
from shared.store.steps.spans import begin_attempt, end_attempt
from shared.store.steps.unfinished import fail, reap, release, retry
from shared.store.successors import NewStep

__all__ = [
    "ChunkResult",
    "Claim",
    "Fetched",
    "Folded",
    "NewStep",
    "SpanResult",
    "Taken",
    "add_chunks",
    "add_detect",
    "begin_attempt",
    "claim_next",
    "complete_chunks",
    "complete_detect",
    "complete_diarize",
    "complete_fetch",
    "complete_finish",
    "complete_listen",
    "complete_only_chunk",
    "complete_prepare",
    "end_attempt",
    "expire_leases",
    "fail",
    "has_audio",
    "is_any_due",
    "move_to_large",
    "note_fetched",
    "reap",
    "release",
    "renew",
    "retry",
    "span_results",
]
