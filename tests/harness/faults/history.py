"""The checker's input: what is read after a run of the platform, and what was done to it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction wrote to a job or a step: a row of ``test_history``."""

    id: int
    transaction: str
    at: datetime
    writer: int | None
    """The process id of who wrote it, where it is known."""
    job_id: UUID
    state: str
    run: int | None = None
    """Of a job."""
    step_id: int | None = None
    """None: it is the job itself that changed."""
    kind: str | None = None
    attempt: int | None = None
    epoch: int | None = None
    owner: str | None = None
    """Who holds the step, or was the last to hold it."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is left of a job: its row, and the text of its transcript where it has one."""

    id: UUID
    state: str
    error_code: str | None
    original_id: UUID | None
    cached: bool
    chunks_total: int
    chunks_done: int
    sha256: str
    text: str | None
    run: int = 1
    """Raised by every retry of its owner."""
    announced: bool = False
    """Whether its client named a receiver that is told of its end."""


@dataclass(frozen=True, slots=True)
class Step:
    """A row of ``steps``."""

    id: int
    job_id: UUID
    kind: str
    idx: int
    state: str
    attempt: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Recording:
    """What was said in a file, and how the job of it may end."""

    text: str
    ends: frozenset[str] = frozenset({"succeeded"})
    error_codes: frozenset[str] = frozenset()
    """Of one that may fail."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to the platform, from ``began`` until all was in place again."""

    kind: str
    began: datetime
    ended: datetime
    pids: frozenset[int] | None = frozenset()
    """The worker processes whose work it may have cost; None: any."""
    kills: bool = False
    """Whether what its victims held must be claimed again by somebody else."""
    noticed: bool = False
    """Whether somebody sees its victims die, and ends their leases at once."""
    delays: bool = False
    """Whether its victims' transactions may be committed long after their statements."""

    def hits(self, worker: str | None) -> bool:
        """Whether a worker, named as in ``lease_owner``, is among its victims."""
        return self.pids is None or (worker is not None and pid_of(worker) in self.pids)


@dataclass(frozen=True, slots=True)
class Told:
    """A webhook event as the platform keeps it: whose end it tells, and where it has to go."""

    id: UUID
    job_id: UUID
    run: int
    type: str
    body: str
    deliveries: tuple[tuple[str, str], ...]
    """Of each delivery the receiver's URL, and its state."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request that a webhook receiver answered with 2xx."""

    event_id: str
    body: str


@dataclass(frozen=True, slots=True)
class History:
    """All that was read after a run."""

    accepted: frozenset[UUID]
    """Jobs that clients were told of with a 202."""
    canceled: frozenset[UUID]
    """Jobs that clients were told are canceled, and did not have retried."""
    recordings: Mapping[str, Recording]
    """By the SHA-256 of the file."""
    jobs: Sequence[Job]
    steps: Sequence[Step]
    changes: Sequence[Change]
    """In the order of their ids."""
    faults: Sequence[Fault] = ()
    told: Sequence[Told] = ()
    received: Sequence[Received] = ()
    deaf: frozenset[str] = frozenset()
    """The URLs of receivers that take nothing."""


def pid_of(worker: str) -> int:
    """Return the process id in a worker's name, ROLE[-MODEL]@HOST-PID-RANDOM; a child's, its own.

    A child's name goes on with /PID-RANDOM.
    """
    found = re.search(r"[-/](\d+)-\w+$", worker)
    return int(found[1]) if found else 0
