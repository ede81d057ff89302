"""Was any job lost, doubled or mishandled? A pure function over what was read after a run.

``check`` replays every change of every job and step (``changes`` records them) against the
state machine that ``shared.store.states`` describes. It compares what is left in the tables, in the
transcripts and at the webhook receivers with what the clients were promised. How the platform does
its work is not its business.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from harness.faults.history import Change, Fault, History, Job, Step
from harness.faults.recoveries import Recovery, find_recoveries
from harness.faults.replay import Replay, Rule, Tenure, TenureEnd, Violation

LOST = frozenset({Rule.LOST, Rule.WRONG_END, Rule.WRONG_WORDS})
DOUBLED = frozenset({Rule.TWO_ENDS, Rule.STALE_WRITE, Rule.AFTER_THE_END})

_CLAIM_TO_COMMIT = timedelta(seconds=1)
"""A lease begins with a statement, and the claim is recorded at the commit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found."""

    violations: Sequence[Violation]
    recoveries: Sequence[Recovery]

    def jobs_that_broke(self, rules: frozenset[Rule]) -> int:
        """Return how many jobs broke one of these rules."""
        return len({each.job_id for each in self.violations if each.rule in rules})


def check(history: History, *, lease_s: float, recovery_s: float) -> Verdict:
    """Replay and compare everything.

    Args:
        history: what was read.
        lease_s: the lease that the platform ran with: nobody may lose a step sooner.
        recovery_s: how long after a fault a step that it left without its holder may wait to be
            claimed again, times of other faults not counted.
    """
    changes_of: dict[UUID, list[Change]] = defaultdict(list)
    steps_of: dict[UUID, list[Step]] = defaultdict(list)
    for change in history.changes:
        changes_of[change.job_id].append(change)
    for step in history.steps:
        steps_of[step.job_id].append(step)
    jobs = {job.id: job for job in history.jobs}
    violations = [
        Violation(Rule.LOST, job_id, "accepted, and not there")
        for job_id in history.accepted - jobs.keys()
    ]
    tenures: list[Tenure] = []
    for job in history.jobs:
        replay = Replay(job, steps_of[job.id])
        violations += replay.run(changes_of[job.id])
        tenures += replay.tenures
        violations += _outcome(job, steps_of[job.id], history)
        violations += _as_its_original(job, jobs)
    violations += _early_reaps(tenures, history.faults, timedelta(seconds=lease_s))
    violations += _rework(tenures, history.faults)
    recoveries = list(find_recoveries(tenures, history.faults))
    violations += [
        Violation(
            Rule.SLOW,
            each.job_id,
            f"step {each.step_id} was claimed again {each.took.total_seconds():.1f} s after "
            f"{each.fault.kind}, {each.disturbed.total_seconds():.1f} s of it within other faults",
        )
        for each in recoveries
        if each.took - each.disturbed > timedelta(seconds=recovery_s)
    ]
    violations += _webhooks(history, jobs)
    return Verdict(violations, recoveries)


def _outcome(job: Job, steps: Sequence[Step], history: History) -> Iterator[Violation]:
    """Hold how a job ended against what was said in its file and what its client was told."""
    recording = history.recordings.get(job.sha256)
    if recording is None:
        yield Violation(Rule.LOST, job.id, "nobody sent this file")
        return
    if job.state in ("queued", "running"):
        yield Violation(Rule.LOST, job.id, f"still {job.state}")
        return
    if job.id in history.canceled and job.state != "canceled":
        yield Violation(Rule.WRONG_END, job.id, f"{job.state}, although its client canceled it")
    if job.state == "canceled":
        if job.id not in history.canceled and "canceled" not in recording.ends:
            yield Violation(Rule.WRONG_END, job.id, "canceled, although nobody asked for that")
    elif job.state not in recording.ends:
        yield Violation(Rule.WRONG_END, job.id, f"{job.state} ({job.error_code})")
    elif job.state == "failed" and job.error_code not in recording.error_codes:
        yield Violation(Rule.WRONG_END, job.id, f"failed with {job.error_code}")
    if job.state != "succeeded":
        if job.text is not None:
            yield Violation(Rule.WRONG_WORDS, job.id, f"{job.state}, with a transcript")
        return
    if job.text is None:
        yield Violation(Rule.LOST, job.id, "succeeded, without a transcript")
    elif job.text.split() != recording.text.split():
        yield Violation(Rule.WRONG_WORDS, job.id, _difference(job.text, recording.text))
    kinds = Counter(step.kind for step in steps if step.kind != "deliver")
    if not job.cached:
        done = sum(step.state == "done" for step in steps if step.kind == "transcribe")
        counted = (kinds["transcribe"], done)
        if (job.chunks_total, job.chunks_done) != counted:
            yield Violation(
                Rule.ROWS_DISAGREE,
                job.id,
                f"counted {job.chunks_done} of {job.chunks_total} chunks; there are {counted}",
            )
        # A file's only chunk needs no ``finish``, where it was claimed once the plan was complete.
        least_finish = 0 if kinds["transcribe"] == 1 else 1
        if kinds["prepare"] != 1 or not least_finish <= kinds["finish"] <= 1:
            yield Violation(Rule.ROWS_DISAGREE, job.id, f"succeeded with the steps {dict(kinds)}")
        if any(step.state != "done" for step in steps if step.kind != "deliver"):
            yield Violation(Rule.ROWS_DISAGREE, job.id, "succeeded with a step not done")


def _difference(heard: str, said: str) -> str:
    words, expected = Counter(heard.split()), Counter(said.split())
    missing, extra = expected - words, words - expected
    return (
        f"{missing.total()} words missing ({' '.join([*missing][:3])}), "
        f"{extra.total()} too many ({' '.join([*extra][:3])})"
        if missing or extra
        else "its words are in another order"
    )


def _as_its_original(job: Job, jobs: Mapping[UUID, Job]) -> Iterator[Violation]:
    """A job that got its end from an equal one has the end, and the words, of that one."""
    if job.original_id is None or job.state == "canceled":
        return
    original = jobs.get(job.original_id)
    if original is not None and (original.state, original.text) != (job.state, job.text):
        yield Violation(
            Rule.WRONG_END,
            job.id,
            f"{job.state}, but {original.state} is its original {original.id}",
        )


def _early_reaps(
    tenures: Iterable[Tenure], faults: Sequence[Fault], lease: timedelta
) -> Iterator[Violation]:
    """Nobody's step is taken before the lease has run out, unless the holder was seen to die.

    Or the claim was recorded late: its commit was long on the way.
    """
    for tenure in tenures:
        if not tenure.taken or tenure.ended is None:
            continue
        held_for = tenure.ended.at - tenure.claimed.at
        if held_for >= lease - _CLAIM_TO_COMMIT:
            continue
        if not any((fault.noticed or fault.delays) and _cost(fault, tenure) for fault in faults):
            yield Violation(
                Rule.EARLY_REAP,
                tenure.claimed.job_id,
                f"step {tenure.claimed.step_id}, epoch {tenure.claimed.epoch}, after "
                f"{held_for.total_seconds():.1f} s",
            )


def _rework(tenures: Iterable[Tenure], faults: Sequence[Fault]) -> Iterator[Violation]:
    """Every claim after a step's first needs a fault that hit the holder before.

    Or, of a delivery, a receiver that did not take it.
    """
    for tenure in tenures:
        if tenure.next_claim is None or tenure.ended is None:
            continue
        refused = tenure.how is TenureEnd.RETRIED and tenure.claimed.kind == "deliver"
        if refused or tenure.how is TenureEnd.RELEASED:
            continue
        if not any(_cost(fault, tenure) for fault in faults):
            yield Violation(
                Rule.REWORK,
                tenure.claimed.job_id,
                f"step {tenure.claimed.step_id}, epoch {tenure.claimed.epoch}: {tenure.how}, and "
                f"nothing had happened to {tenure.claimed.owner}",
            )


def _cost(fault: Fault, tenure: Tenure) -> bool:
    """Whether a fault can be why a tenure ended without its step being done."""
    assert tenure.ended is not None
    overlaps = fault.began <= tenure.ended.at and fault.ended >= tenure.claimed.at
    return overlaps and fault.hits(tenure.claimed.owner)


def _webhooks(history: History, jobs: Mapping[UUID, Job]) -> Iterator[Violation]:
    """Each end of a job that has a receiver is one event, which arrives as it was written."""
    told = Counter(event.job_id for event in history.told)
    for job in history.jobs:
        ends = job.run - (job.state in ("queued", "running")) if job.announced else 0
        if told[job.id] != ends:
            yield Violation(Rule.WEBHOOK, job.id, f"{told[job.id]} events tell {ends} ends")
    bodies: dict[str, set[str]] = defaultdict(set)
    for request in history.received:
        bodies[request.event_id].add(request.body)
    for event in history.told:
        job_then = jobs.get(event.job_id)
        if job_then is None or (
            event.run == job_then.run and event.type != f"job.{job_then.state}"
        ):
            yield Violation(Rule.WEBHOOK, event.job_id, f"told {event.type}")
        for url, state in event.deliveries:
            if state != ("pending" if url in history.deaf else "delivered"):
                yield Violation(Rule.WEBHOOK, event.job_id, f"its delivery to {url} is {state}")
        taken = any(url not in history.deaf for url, _ in event.deliveries)
        if bodies[str(event.id)] != ({event.body} if taken else set()):
            yield Violation(Rule.WEBHOOK, event.job_id, "what arrived is not what was told")
    known = {str(event.id) for event in history.told}
    for event_id in bodies.keys() - known:
        yield Violation(Rule.WEBHOOK, None, f"event {event_id} arrived and was never told")
