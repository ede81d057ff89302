"""Unexpected errors: which are the same, and whether the step or the worker is to blame.

Two errors are the same if they have the same class and come from the same place in the code.
"""

import logging
import traceback

from sqlalchemy import Engine

from shared.infra.errors import DatabaseUnavailable, InternalError
from shared.infra.settings import Settings
from shared.store.states import StepKind
from shared.store.workers import FAILURES, note_bug, note_success, parent_id
from worker.media.errors import DecoderBug

log = logging.getLogger(__name__)

_OURS = ("shared.", "worker.")


def fingerprint(error: Exception) -> str:
    """Return an error's class, the place where it arose, and the last place in Longhand's code."""
    if isinstance(error, DecoderBug):
        return error.name
    places = [
        f"{frame.f_globals['__name__']}:{line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    ours = [place for place in places if place.startswith(_OURS)]
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return " < ".join([name, *dict.fromkeys(places[-1:] + ours[-1:])])


class Record:
    """Records in the worker registry which kinds of step succeed and fail in this process.

    Children of a pool share their parent's entry, so their steps count together.
    """

    def __init__(self, engine: Engine, settings: Settings, owner: str) -> None:
        self._engine = engine
        self._worker_id = parent_id(owner)
        self._log_name = settings.log_name or f"the log of worker {self._worker_id}"
        self._proven: set[StepKind] = set()

    def note_success(self, kind: StepKind) -> None:
        """Record, once, that a step of the kind has succeeded here."""
        if kind in self._proven:
            return
        try:
            note_success(self._engine, self._worker_id, kind)
        except DatabaseUnavailable as error:
            log.warning("%s: that %s can be done here is not noted", error, kind)
        else:
            self._proven.add(kind)

    def note_bug(self, step_id: int, kind: StepKind, error: Exception) -> InternalError:
        """Count an unexpected error; return the error that its step ends with.

        If every step of the kind has ended with this bug since the worker's start, the worker is to
        blame. One critical line says so, and the registry says so until a step succeeds.
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
