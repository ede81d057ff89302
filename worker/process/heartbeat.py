"""The thread that keeps a worker process's leases, and its entry in the registry, alive."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Engine

from shared.infra.errors import DatabaseUnavailable, LeaseLost, WorkerStopping
from shared.infra.settings import Settings
from shared.store.steps import Claim, renew
from shared.store.workers import WorkerEntry, announce, withdraw
from worker.process import drain

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Lease:
    """A claim under renewal."""

    claim: Claim
    lost: bool = False
    _on_loss: list[Callable[[], object]] = field(default_factory=list)

    def when_lost(self, action: Callable[[], object]) -> None:
        """Have the heartbeat's thread call ``action`` when it finds the claim void."""
        self._on_loss.append(action)
        if self.lost:
            action()

    def lose(self) -> None:
        """Note that the claim is void, as when its job is canceled."""
        self.lost = True
        for action in self._on_loss:
            action()

    def check(self) -> None:
        """Stop work whose result would be dropped, or that would delay the worker's end.

        Raises:
            LeaseLost: the last heartbeat found the claim void.
            WorkerStopping: the worker was told to stop.
        """
        if self.lost:
            raise LeaseLost(f"step {self.claim.step_id} is no longer held")
        if drain.has_begun():
            raise WorkerStopping(f"step {self.claim.step_id} is released: the worker stops")


class Heartbeat:
    """Renews all leases held by this process every ``heartbeat_s``, from one thread.

    A beat that fails is repeated after a second, not after a whole period.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        """Start beating."""
        self.on_drained: Callable[[WorkerEntry, bool], object] = lambda *_: None
        """Called with each beat for each registered worker: whether it is to claim nothing."""
        self._engine = engine
        self._settings = settings
        self._entries: Mapping[str, WorkerEntry] = {}
        """What is announced, by id: a process is one worker, or one for each of its models."""
        self._failing: dict[str, Sequence[str]] = {}
        self._sandbox: Mapping[str, Any] | None = None
        self._held: set[Lease] = set()  # a step can be in it twice: lost, and claimed again
        self._lock = threading.Lock()
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def hold(self, claims: Iterable[Claim]) -> Iterator[list[Lease]]:
        """Keep claims alive while the block runs."""
        leases = [Lease(claim) for claim in claims]
        with self._lock:
            self._held.update(leases)
        try:
            yield leases
        finally:
            with self._lock:
                self._held.difference_update(leases)

    @property
    def workers(self) -> Sequence[str]:
        """The ids of the workers that this process is."""
        return [*self._entries]

    @property
    def failing(self) -> Sequence[str]:
        """A sentence for each kind of step that always fails in this process, by the last beat."""
        return [reason for reasons in [*self._failing.values()] for reason in reasons]

    def register(self, entry: WorkerEntry) -> None:
        """Announce this entry in the registry, now and with each beat; it replaces an older one."""
        with self._lock:
            self._entries = {**self._entries, entry.id: entry}
        self._wake.set()

    def note_sandbox(self, sandbox: Mapping[str, Any]) -> None:
        """Have the entry tell what confines the worker's decoders."""
        self._sandbox = sandbox
        self._wake.set()

    def stop(self) -> None:
        """Stop beating and leave the registry."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        for worker in self.workers:
            try:
                withdraw(self._engine, worker)
            except DatabaseUnavailable as error:
                log.warning("%s: the registry will forget this worker by itself", error)

    def _run(self) -> None:
        while not self._stopping:
            begun = time.monotonic()
            pause_s = 1.0
            try:
                self._beat()
                pause_s = max(0.0, self._settings.heartbeat_s - (time.monotonic() - begun))
            except DatabaseUnavailable as error:
                log.warning("%s: no heartbeat", error)
            except Exception:  # the thread must outlive it: without beats all leases run out
                log.exception("unexpected error: no heartbeat")
            self._wake.wait(pause_s)
            self._wake.clear()

    def _beat(self) -> None:
        for entry in self._entries.values():
            announced = announce(self._engine, replace(entry, sandbox=self._sandbox))
            self._failing[entry.id] = announced.failing
            self.on_drained(entry, announced.drained)
        with self._lock:
            leases = list(self._held)
        if not leases:
            return
        kept = renew(
            self._engine, [lease.claim for lease in leases], lease_s=self._settings.lease_s
        )
        for lease in leases:
            if not lease.lost and (lease.claim.step_id, lease.claim.epoch) not in kept:
                lease.lose()
