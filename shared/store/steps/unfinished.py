"""Claims that end without completing their step: released, retried, failed or reaped."""

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import POISONOUS, InternalError, LeaseLost, LonghandError, Outage
from shared.store.jobs.end import fail_delivery, fail_job
from shared.store.states import StepKind
from shared.store.steps.claims import Claim, claim_of, fence, fenced, record_step
from shared.store.steps.diarize import queue_finish
from shared.store.steps.fair_order import COLUMNS, FIRST_RANK
from shared.store.steps.spans import write_lost
from shared.store.successors import first_turn
from shared.store.wakeups import ring_after_commit

MAX_OUTAGES = 120
"""Half an hour on average: with a base of 2 s the mean delays are 1, 2, 4, 8 s, then 15 s each."""

LONGEST_DELAY_S = 30.0
"""After an outage all that waited for the service is due within this time."""


def release(engine: Engine, claim: Claim) -> None:
    """Step running -> queued, as if never claimed: an orderly stop is no failed attempt."""
    with fenced(engine, claim) as connection:
        _give_back(connection, claim)


def retry(engine: Engine, claim: Claim, error: LonghandError, *, base_s: float) -> None:
    """Step running -> queued after a backoff, or -> failed after its last attempt.

    An ``Outage`` costs no attempt: a step fails after ``MAX_OUTAGES`` of them, so all jobs survive
    half an hour of it. Any other error costs the attempt. An ``InternalError`` with the fingerprint
    of the attempt before fails the step at once.

    The n-th delay is uniform in [0, base_s * 2**(n - 1)], at most ``LONGEST_DELAY_S``: the "full
    jitter" of Marc Brooker's "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
    """
    is_outage = isinstance(error, Outage)
    tried = claim.outages + 1 if is_outage else claim.attempt
    with fenced(engine, claim) as connection:
        bug = claim.bug
        if isinstance(error, InternalError):
            if error.fingerprint == bug:
                detail = f"{claim.kind} failed twice in the same way: {error}"
                fail_step(connection, claim, error.code, detail)
                return
            bug = error.fingerprint
        elif not is_outage:
            bug = None
        if tried >= (MAX_OUTAGES if is_outage else claim.max_attempts):
            fail_step(connection, claim, error.code, f"{error} (after {tried} attempts)")
            return
        longest_s = min(base_s * 2 ** (tried - 1), LONGEST_DELAY_S)
        requeue(connection, claim, least_s=0.0, most_s=longest_s, bug=bug, outages=int(is_outage))
        event = "step.postponed" if is_outage else "step.retried"
        record_step(connection, claim, event, f"{error.code}: {error}")


def fail(engine: Engine, claim: Claim, error: LonghandError) -> None:
    """Step running -> failed, and its job running -> failed or its delivery pending -> failed.

    A job goes on without its speakers, and nothing follows from a listening copy that cannot be
    made.
    """
    with fenced(engine, claim) as connection:
        fail_step(connection, claim, error.code, str(error))


def reap(engine: Engine, *, limit: int = 500) -> int:
    """Running with an expired lease -> queued, or -> failed after the last attempt.

    A worker says which step its model hears alone (``name_suspect``). If it dies meanwhile, that
    step is to blame, and the other steps that it held lose no attempt.

    Returns the number of steps reaped. Each has a transaction of its own. A job whose row is locked
    is left to the next sweep.
    """
    with begin(engine) as connection:
        expired = connection.execute(
            text(f"""
                SELECT {COLUMNS}, suspect_step,
                       extract(epoch FROM claimed_at)::float8 AS claimed_s,
                       extract(epoch FROM clock_timestamp())::float8 AS now_s
                FROM steps JOIN jobs ON jobs.id = steps.job_id
                LEFT JOIN workers ON workers.id = lease_owner
                WHERE steps.state = 'running' AND lease_until < clock_timestamp()
                ORDER BY lease_until LIMIT :limit
            """),  # noqa: S608 - the variable part is a constant
            {"limit": limit},
        ).all()
    reaped = 0
    for row in expired:
        claim = claim_of(row)
        try:
            with begin(engine) as connection:
                fence(connection, claim, to_reap=True)
                if row.suspect_step not in (None, claim.step_id):
                    _give_back(connection, claim, f"the worker died of step {row.suspect_step}")
                elif claim.attempt >= claim.max_attempts:
                    detail = f"the worker died or hung at each of {claim.attempt} attempts"
                    fail_step(connection, claim, POISONOUS, detail)
                else:
                    _requeue_first(connection, claim, bug=None, attempts=claim.attempt)
                    record_step(connection, claim, "step.reaped")
        except LeaseLost:
            continue  # completed or renewed since the query, or locked
        write_lost(claim, begun_s=row.claimed_s, ended_s=row.now_s)
        reaped += 1
    return reaped


def give_back_all(connection: Connection) -> None:
    """All steps running -> queued, as if never claimed; no worker may run."""
    running = connection.execute(
        text(f"""
            SELECT {COLUMNS} FROM steps JOIN jobs ON jobs.id = steps.job_id
            WHERE steps.state = 'running'
        """)  # noqa: S608 - the variable part is a constant
    )
    for row in running.all():
        _give_back(connection, claim_of(row))


def fail_step(connection: Connection, claim: Claim, code: str, detail: str) -> None:
    """Step running -> failed, and what follows from it; the caller has fenced the claim."""
    connection.execute(
        text("""
            UPDATE steps SET state = 'failed', error_code = :code, error_detail = :detail,
                             lease_until = NULL, finished_at = clock_timestamp()
            WHERE id = :id
        """),
        {"id": claim.step_id, "code": code, "detail": detail},
    )
    record_step(connection, claim, "step.failed", f"{code}: {detail}")
    if claim.kind == StepKind.DELIVER:
        fail_delivery(connection, claim.input["delivery_id"], detail)
    elif claim.kind == StepKind.DIARIZE:
        queue_finish(connection, claim.job_id, claim.kind, claim.max_attempts)
    elif claim.kind != StepKind.LISTEN:
        fail_job(connection, claim.job_id, code, detail)


def _give_back(connection: Connection, claim: Claim, detail: str | None = None) -> None:
    """Step running -> queued, as if never claimed; the caller has fenced the claim."""
    _requeue_first(connection, claim, bug=claim.bug, attempts=claim.attempt - 1)
    record_step(connection, claim, "step.released", detail)


_UNHELD = f"""
    state = 'queued', lease_owner = NULL, lease_until = NULL, bug = :bug, job_turn = 0,
    tenant_turn = {first_turn("steps.queue")}
"""
"""The columns of a step that loses its holder. It has had its turns, so it goes before all waiting
steps of other tenants, and before those of its own tenant with the same rank."""


def requeue(
    connection: Connection,
    claim: Claim,
    *,
    least_s: float,
    most_s: float,
    bug: str | None = None,
    outages: int = 0,
) -> None:
    """Step running -> queued, due after a random delay between the two; the caller has fenced it.

    ``outages`` says how many attempts were outages and do not count. A worker is woken when the
    step is due; if that is later than ``LONGEST_DELAY_S``, the sweep does it.
    """
    queued = connection.execute(
        text(f"""
            UPDATE steps
            SET {_UNHELD}, rank = -(SELECT priority FROM jobs WHERE id = job_id),
                attempt = attempt - :outages, outages = outages + :outages,
                run_at = clock_timestamp()
                         + make_interval(secs => :least_s + (:most_s - :least_s) * random())
            WHERE id = :id
            RETURNING queue, extract(epoch FROM run_at - clock_timestamp())::float8 AS delay_s
        """),  # noqa: S608 - constants
        {
            "id": claim.step_id,
            "least_s": least_s,
            "most_s": most_s,
            "bug": bug,
            "outages": outages,
        },
    ).one()
    if queued.delay_s <= LONGEST_DELAY_S:
        ring_after_commit(connection, queued.queue, 1, max(0.0, queued.delay_s))


def _requeue_first(connection: Connection, claim: Claim, *, bug: str | None, attempts: int) -> None:
    """Step running -> queued, due at once and before all that its tenant has not begun.

    A delivery keeps its ``run_at``, and so its place in its lane.
    """
    queue = connection.execute(
        text(f"""
            UPDATE steps
            SET {_UNHELD}, rank = :first, attempt = :attempts,
                run_at = CASE WHEN lane IS NULL THEN clock_timestamp() ELSE run_at END
            WHERE id = :id
            RETURNING queue
        """),  # noqa: S608 - constants
        {"id": claim.step_id, "first": FIRST_RANK, "bug": bug, "attempts": attempts},
    ).scalar_one()
    ring_after_commit(connection, queue, 1)
