"""Steps as watchers of Celery's events (Flower) see them: each claim is a task.

A wake-up is not shown, as it may claim no step or many. The worker sends a task's events for each
claim, and only while somebody watches; Flower asks for events every few seconds.
"""

import logging
import mmap
import struct
import time
import uuid
from collections.abc import Callable

from celery import Celery
from celery.worker.control import control_command
from kombu.exceptions import OperationalError

from shared.infra.errors import LonghandError
from shared.store.states import StepKind
from shared.store.steps import Claim
from shared.store.workers import parent_id

log = logging.getLogger(__name__)

WATCHED_S = 30.0
"""Events are sent for so long after a watcher has asked for them; Flower asks every 5 s."""

_STEPS = uuid.UUID("6f1b8a52-9a3c-5b7e-8d21-4c5a0e6f7d10")
"""Namespace of the tasks' ids."""

_until = mmap.mmap(-1, 8)  # anonymous and shared: children forked later see changes


def share() -> None:
    """Share what is known of watchers with the children that are forked from now on."""
    global _until  # noqa: PLW0603 - as each process has one
    _until = mmap.mmap(-1, 8)


@control_command(name="enable_events")  # type: ignore[untyped-decorator]
def note_watcher(_state: object) -> dict[str, str]:
    """Send events for ``WATCHED_S``; replaces Celery's command, after which events never end."""
    _until[:8] = struct.pack("d", time.monotonic() + WATCHED_S)
    return {"ok": "task events enabled"}


def is_watched() -> bool:
    """Tell whether anybody has asked for events lately."""
    until: float = struct.unpack("d", _until[:8])[0]
    return time.monotonic() < until


class Watched:
    """Shows watchers a worker's current steps."""

    def __init__(self, broker: Celery, owner: str) -> None:
        self._broker = broker
        self._worker_id = parent_id(owner)

    def begin(self, claim: Claim) -> "Shown":
        """Show a step's work, until ``Shown.end``."""
        return Shown(claim, self._send if is_watched() else _send_nothing)

    def _send(self, event: str, task: str, **fields: object) -> None:
        try:
            with self._broker.events.default_dispatcher(hostname=self._worker_id) as dispatcher:
                dispatcher.send(f"task-{event}", uuid=task, **fields)
        except (OperationalError, OSError) as error:
            log.debug("nobody is told of %s: %s", task, error)


class Shown:
    """A claim that watchers see as a task."""

    def __init__(self, claim: Claim, send: Callable[..., None]) -> None:
        """Show that the step was received and has started."""
        self._task = str(uuid.uuid5(_STEPS, f"{claim.step_id}/{claim.epoch}"))
        self._send = send
        self._begun = time.monotonic()
        chunk = f" of chunk {claim.idx}" if claim.kind == StepKind.TRANSCRIBE else ""
        send(
            "received",
            self._task,
            name=str(claim.kind),
            args=f"job {claim.job_id}, {claim.kind}{chunk}, step {claim.step_id}",
            kwargs="",
            retries=claim.attempt - 1,
        )
        send("started", self._task)

    def end(self, error: Exception | None = None) -> None:
        """Show how the step ended."""
        if error is None:
            runtime_s = time.monotonic() - self._begun
            self._send("succeeded", self._task, result="", runtime=runtime_s)
        else:
            # The text of an unexpected error may hold what Flower's users must not see.
            text = str(error) if isinstance(error, LonghandError) else "see the worker's log"
            exception = f"{type(error).__name__}({text!r})"
            self._send("failed", self._task, exception=exception, traceback="")


def _send_nothing(*_: object, **__: object) -> None:
    """Nobody watches."""
