"""Claims that end with their step unfinished: released, tried again, failed, reaped."""

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import InternalError, LeaseLost, LonghandError, Outage
from shared.store.jobs.end import fail_delivery, fail_job
from shared.store.states import StepKind
from shared.store.steps.claims import Claim, claim_of, fence, record_step
from shared.store.steps.fair_order import COLUMNS
from shared.store.successors import first_turn
from shared.store.wakeups import ring_after_commit

MAX_OUTAGES = 120
"""With delays from 2 s on they span half an hour in the mean: 1, 2, 4, 8 s, then 15 s each."""

LONGEST_DELAY_S = 30.0
"""When a service is back, all that waited for it is due again within this time."""

_FIRST_RANK = -(2**31)
"""Before any priority."""


def release(engine: Engine, claim: Claim) -> None:
    """Step running -> queued at once, as if never claimed: an orderly stop is no failed attempt.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        _give_back(connection, claim)


def retry(engine: Engine, claim: Claim, error: LonghandError, *, base_s: float) -> None:
    """Step running -> queued after a backoff, or -> failed when it was tried often enough.

    An ``Outage`` is not among the attempts, so that all jobs outlast one of half an hour: it takes
    ``MAX_OUTAGES`` to fail a step. Anything else costs the attempt. An ``InternalError`` with the
    fingerprint of the attempt before fails the step at once.

    The n-th delay is uniform in [0, base_s * 2**(n - 1)], at most ``LONGEST_DELAY_S``: the "full
    jitter" of Marc Brooker's "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).

    Raises:
        LeaseLost: the claim is no longer current.
    """
    is_outage = isinstance(error, Outage)
    tried = claim.outages + 1 if is_outage else claim.attempt
    with begin(engine) as connection:
        fence(connection, claim)
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
        requeue(connection, claim, least_s=0.0, most_s=longest_s, bug=bug)
        if is_outage:
            _uncount_attempt(connection, claim, outages=1)
        record_step(
            connection,
            claim,
            "step.postponed" if is_outage else "step.retried",
            f"{error.code}: {error}",
        )


def fail(engine: Engine, claim: Claim, error: LonghandError) -> None:
    """Step running -> failed and job running -> failed: trying again cannot help.

    Of a delivery: step running -> failed, delivery pending -> failed.

    Raises:
        LeaseLost: the claim is no longer current.
    """
    with begin(engine) as connection:
        fence(connection, claim)
        fail_step(connection, claim, error.code, str(error))


def reap(engine: Engine, *, limit: int = 500) -> int:
    """Running with an expired lease -> queued, or -> failed when that was the last attempt.

    Where the worker had said which step it was trying alone when it died, the others that it held
    have lost no attempt: they are not to blame.

    Returns the number of steps reaped. Each is its own transaction, and a job whose row is locked
    is left to the next sweep, so that none holds up the rest.
    """
    with begin(engine) as connection:
        expired = connection.execute(
            text(f"""
                SELECT {COLUMNS}, suspect_step
                FROM steps JOIN jobs ON jobs.id = steps.job_id
                LEFT JOIN workers ON workers.id = lease_owner
                WHERE steps.state = 'running' AND lease_until < clock_timestamp()
                ORDER BY lease_until LIMIT :limit
            """),  # noqa: S608 - the variable part is a constant
            {"limit": limit},
        ).all()
    reaped = 0
    for row in expired:
        claim = claim_of(dict(row._mapping))
        try:
            with begin(engine) as connection:
                fence(connection, claim, to_reap=True)
                if row.suspect_step not in (None, claim.step_id):
                    _give_back(connection, claim, f"the worker died of step {row.suspect_step}")
                elif claim.attempt >= claim.max_attempts:
                    detail = f"the worker died or hung at each of {claim.attempt} attempts"
                    fail_step(connection, claim, "poisonous_input", detail)
                else:
                    _requeue_first(connection, claim, bug=None)
                    record_step(connection, claim, "step.reaped")
        except LeaseLost:
            continue  # since we looked: completed, renewed by a late heartbeat, or locked
        reaped += 1
    return reaped


def fail_step(connection: Connection, claim: Claim, code: str, detail: str) -> None:
    """Step running -> failed, with what follows from it; the caller has fenced the claim."""
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
        return
    fail_job(connection, claim.job_id, code, detail)


def _give_back(connection: Connection, claim: Claim, detail: str | None = None) -> None:
    """Step running -> queued, as if never claimed; the caller has fenced the claim."""
    _requeue_first(connection, claim, bug=claim.bug)
    _uncount_attempt(connection, claim)
    record_step(connection, claim, "step.released", detail)


def _uncount_attempt(connection: Connection, claim: Claim, *, outages: int = 0) -> None:
    connection.execute(
        text("""
            UPDATE steps SET attempt = attempt - 1, outages = outages + :outages WHERE id = :id
        """),
        {"id": claim.step_id, "outages": outages},
    )


_UNHELD = f"""
    state = 'queued', lease_owner = NULL, lease_until = NULL, bug = :bug, job_turn = 0,
    tenant_turn = {first_turn("steps.queue")}
"""
"""What a step is that nobody holds any more. It has had its turn, so no other tenant's step that
waits comes before it, and of its own tenant's no other with its rank."""


def requeue(
    connection: Connection, claim: Claim, *, least_s: float, most_s: float, bug: str | None = None
) -> None:
    """Step running -> queued, due after a random delay between the two; its caller fenced it.

    The sweep wakes a worker when it is due.
    """
    connection.execute(
        text(f"""
            UPDATE steps
            SET {_UNHELD}, rank = -(SELECT priority FROM jobs WHERE id = job_id),
                run_at = clock_timestamp()
                         + make_interval(secs => :least_s + (:most_s - :least_s) * random())
            WHERE id = :id
        """),  # noqa: S608 - constants
        {"id": claim.step_id, "least_s": least_s, "most_s": most_s, "bug": bug},
    )


def _requeue_first(connection: Connection, claim: Claim, *, bug: str | None) -> None:
    """Step running -> queued, due at once and before what its tenant has not begun.

    A delivery keeps the time at which it was due before, and so is among the first of its lane.
    """
    connection.execute(
        text(f"""
            UPDATE steps
            SET {_UNHELD}, rank = :first,
                run_at = CASE WHEN lane IS NULL THEN clock_timestamp() ELSE run_at END
            WHERE id = :id
        """),  # noqa: S608 - constants
        {"id": claim.step_id, "first": _FIRST_RANK, "bug": bug},
    )
    ring_after_commit(connection, claim.queue, 1)
