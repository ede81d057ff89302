"""Uploads that nobody needs any more: removed from the database and the object store."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from shared.infra.errors import DatabaseUnavailable, StorageUnavailable
from shared.store.expired_uploads import remove_expired, remove_unknown
from shared.store.objects.keys import UPLOADS
from shared.store.objects.remover import BATCH
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)

UNKNOWN_AFTER = timedelta(hours=23)
"""How old a multipart upload is, at least, of which the database knows nothing: with the time
between two looks, none gets older than a day."""
LOOK_S = 3_600.0
"""How often the object store is asked for such uploads."""


class UploadUpkeep:
    """Removes what is past its time at every call, and now and then what the database lacks."""

    def __init__(self, runtime: Runtime, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: in seconds."""
        self._runtime = runtime
        self._clock = clock
        self._looks_at_s = clock()

    def __call__(self) -> None:
        """Work until nothing is due; failures are logged in one line and tried again later."""
        database, storage = self._runtime.database, self._runtime.storage
        try:
            expired = 0
            while batch := remove_expired(database, storage, limit=BATCH):
                expired += batch
            unknown = 0
            if self._clock() >= self._looks_at_s:
                self._looks_at_s = self._clock() + LOOK_S
                older_than = datetime.now(UTC) - UNKNOWN_AFTER
                unknown = remove_unknown(database, storage, prefix=UPLOADS, older_than=older_than)
        except (DatabaseUnavailable, StorageUnavailable) as error:
            log.warning("%s: uploads are removed later", error)
            return
        if expired or unknown:
            log.info("removed uploads: %d past their time, %d unknown", expired, unknown)
