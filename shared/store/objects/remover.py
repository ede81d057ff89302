"""The remover: deletes due objects from the object store. No other code deletes objects."""

import logging
from functools import partial

from sqlalchemy import Engine

from shared.infra.background import Background
from shared.infra.errors import DatabaseUnavailable, StorageUnavailable
from shared.infra.storage import Storage
from shared.store.objects.removals import confirm_removal, take_due_removals

log = logging.getLogger(__name__)

BATCH = 100
"""Removals taken at once."""
PATIENCE_S = 30.0
"""Time until a removal that failed is tried again."""


def remove_due(
    engine: Engine, storage: Storage, *, limit: int = BATCH, patience_s: float = PATIENCE_S
) -> int:
    """Delete the objects that are due; returns the number of prefixes.

    Failures are logged in one line and tried again later.
    """
    taken = take_due_removals(engine, limit=limit, patience_s=patience_s)
    removed = 0
    failure: StorageUnavailable | None = None
    for removal in taken:
        try:
            storage.delete_prefix(removal.prefix)
        except StorageUnavailable as error:
            failure = error
            if not _answers(storage):
                break  # each of the others would take as long to fail
        else:
            confirm_removal(engine, removal)
            removed += 1
    if failure is not None:
        log.warning("%s: %d removals are tried again later", failure, len(taken) - removed)
    return removed


class Remover(Background):
    """Deletes the objects that are due, in a thread, whenever it is rung."""

    def __init__(self, engine: Engine, storage: Storage) -> None:
        super().__init__("remover", partial(_remove_all_due, engine, storage))


def _remove_all_due(engine: Engine, storage: Storage) -> None:
    try:
        while remove_due(engine, storage) == BATCH:
            pass
    except DatabaseUnavailable as error:
        log.warning("%s: superfluous objects are removed later", error)


def _answers(storage: Storage) -> bool:
    try:
        storage.ping()
    except StorageUnavailable:
        return False
    return True
