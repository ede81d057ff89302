"""Unexpected errors: telling one from another, and a step's bad luck from a worker's.

Two errors are the same when they have the same class and come from the same place in the code.
"""

import logging
from dataclasses import dataclass
from types import TracebackType

from sqlalchemy import Engine

from shared.infra.errors import DatabaseUnavailable, InternalError
from shared.infra.settings import Settings
from shared.store.states import StepKind
from shared.store.workers import FAILURES, note_bug, note_success, parent_id

log = logging.getLogger(__name__)

_OURS = ("shared", "worker")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code."""

    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line}"


def fingerprint(error: Exception) -> str:
    """Return what tells this error from others: its class, where it arose and where we met it."""
    places = _places(error.__traceback__)
    ours = [place for place in places if place.module.partition(".")[0] in _OURS]
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return " < ".join([name, *map(str, dict.fromkeys(places[-1:] + ours[-1:]))])


def _places(traceback: TracebackType | None) -> list[Place]:
    """Return the lines that an error has passed through, the one where it arose last."""
    places = []
    while traceback is not None:
        places.append(Place(traceback.tb_frame.f_globals["__name__"], traceback.tb_lineno))
        traceback = traceback.tb_next
    return places


class Record:
    """What this process makes of each kind of step, told to its worker's entry in the registry.

    A pool's children share their parent's entry, so what they make of steps is counted together.
    """

    def __init__(self, engine: Engine, settings: Settings, owner: str) -> None:
        self._engine = engine
        self._worker_id = parent_id(owner)
        self._log_name = settings.log_name or f"the log of worker {self._worker_id}"
        self._proven: set[StepKind] = set()

    def note_success(self, kind: StepKind) -> None:
        """Say once that a step of the kind can be done here."""
        if kind in self._proven:
            return
        try:
            note_success(self._engine, self._worker_id, kind)
        except DatabaseUnavailable as error:
            log.warning("%s: that %s can be done here is not noted", error, kind)
        else:
            self._proven.add(kind)

    def note_bug(self, step_id: int, kind: StepKind, error: Exception) -> InternalError:
        """Count an unexpected error; return what it is to its step.

        When every step of the kind has ended in this way since the worker's start, that is no
        step's fault: one line says so, as does the registry until one succeeds.
        """
        name = type(error).__name__
        bug = InternalError(
            f"an unexpected error ({name}) at step {step_id}; see {self._log_name}",
            fingerprint=fingerprint(error),
        )
        if kind in self._proven:
            return bug
        reason = f"every {kind} step fails here in the same way: {name}; see {self._log_name}"
        try:
            times = note_bug(self._engine, self._worker_id, kind, bug.fingerprint, reason)
        except DatabaseUnavailable as unavailable:
            log.warning("%s: that %s failed here is not noted", unavailable, kind)
        else:
            if times == FAILURES:
                log.critical("worker %s: %s", self._worker_id, reason)
        return bug
