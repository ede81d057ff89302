"""Makes a backup: the rows as one moment has them, then the objects."""

import gzip
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, text

from cli.backup.folder import (
    FORMAT,
    Backup,
    BackupFolder,
    Manifest,
    ObjectEntry,
    ObjectIndex,
    ObjectsEntry,
    TableEntry,
    digest_of,
)
from cli.errors import CommandError
from shared import __version__
from shared.infra.database import make_engine
from shared.infra.errors import StorageUnavailable
from shared.infra.schema import check, own_revision
from shared.infra.settings import Settings
from shared.infra.storage import Storage, StoredObject
from shared.store.backup.objects import PREFIXES
from shared.store.backup.rows import TABLES, columns_of, read_sequences, read_table, snapshot
from shared.store.objects.removals import removals_held

COPIES = 8
"""Objects copied at once. Most are small, and wait for the store."""
ANSWER_S = 86_400.0
"""Longest wait for one answer of Postgres: a constraint of a large table takes minutes."""
_READINGS = 2
"""How often an object is read whose size is not the listed one, before the backup fails."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made."""

    path: Path
    jobs: int
    objects: int
    n_bytes: int
    """Of all objects."""
    copied: int
    """Objects that no earlier backup here had."""
    copied_bytes: int
    gone: int
    """Objects that were listed and then removed by somebody else than Longhand."""
    pruned: int
    """Older backups that were removed."""
    took_s: float


def make_backup(
    settings: Settings, path: Path, *, keep: int | None, say: Callable[[str], None]
) -> Made:
    """Add a backup of the database and the bucket to a folder of backups.

    The platform works meanwhile, but removes no objects. Then ``keep`` backups stay, or all.

    Raises:
        CommandError: another backup is made there, or an object is read in part.
        LonghandError: Postgres or the object store failed; what was copied serves the next run.
    """
    began = time.monotonic()
    folder = BackupFolder(path)
    engine = make_engine(settings, pool_size=2, answer_s=ANSWER_S)
    storage = Storage(settings.storage_url.get_secret_value(), connections=COPIES)
    try:
        _check_schema(engine)
        with folder.locked(), removals_held(engine) as confirm_hold:
            earlier = folder.backups()
            backup, manifest = _dump(engine, folder, say)
            copies = _Copies(folder, storage, earlier[-1] if earlier else None)
            with closing(ObjectIndex(backup.index_path, new=True)) as index:
                for prefix in PREFIXES:
                    for page in storage.objects(prefix):
                        index.add(copies.copy(page))
                count, n_bytes = index.totals()
            copies.close()
            confirm_hold()
            manifest.objects = ObjectsEntry(
                count=count, n_bytes=n_bytes, sha256=digest_of(backup.index_path)
            )
            backup.finish(manifest)
            pruned = 0 if keep is None else folder.prune(keep)
    finally:
        engine.dispose()
    return Made(
        path=backup.path,
        jobs=manifest.tables["jobs"].rows,
        objects=count,
        n_bytes=n_bytes,
        copied=copies.copied,
        copied_bytes=copies.copied_bytes,
        gone=copies.gone,
        pruned=pruned,
        took_s=time.monotonic() - began,
    )


def _check_schema(engine: Engine) -> None:
    revision = check(engine)
    if revision != own_revision():
        raise CommandError(
            f"the database has schema {revision}, and this version knows the tables of "
            f"{own_revision()}: make the backup with the version that migrated it"
        )


def _dump(
    engine: Engine, folder: BackupFolder, say: Callable[[str], None]
) -> tuple[Backup, Manifest]:
    """Write all rows, and return the backup with a manifest that has no objects yet."""
    with snapshot(engine) as connection:
        now = connection.execute(
            text("SELECT clock_timestamp() AT TIME ZONE 'UTC', current_setting('server_version')")
        ).one()
        backup = folder.begin(now[0])
        say(f"copying the rows as of {now[0]:%Y-%m-%d %H:%M:%S} UTC")
        tables = {}
        for table in TABLES:
            columns = columns_of(connection, table)
            target = backup.table_path(table)
            rows = 0
            with gzip.open(target, "wb", compresslevel=3) as file:
                for block in read_table(connection, table, columns):
                    rows += block.count(b"\n")
                    file.write(block)
            tables[table] = TableEntry(columns=columns, rows=rows, sha256=digest_of(target))
        # Not part of the snapshot: they may be later than the rows, which does no harm.
        sequences = dict(read_sequences(connection))
    nothing = ObjectsEntry(count=0, n_bytes=0, sha256=hashlib.sha256().hexdigest())
    manifest = Manifest(
        format=FORMAT,
        version=__version__,
        schema_revision=own_revision(),
        postgres=now[1],
        at=now[0],
        tables=tables,
        sequences=sequences,
        objects=nothing,
    )
    return backup, manifest


class _Copies:
    """Copies objects out of the store, unless the backup before has them."""

    def __init__(self, folder: BackupFolder, storage: Storage, earlier: Backup | None) -> None:
        self._folder = folder
        self._storage = storage
        self._earlier = None if earlier is None else earlier.index()
        self._pool = ThreadPoolExecutor(COPIES)
        self.copied = self.copied_bytes = self.gone = 0

    def copy(self, page: list[StoredObject]) -> list[ObjectEntry]:
        """Return the entries of objects whose bytes are in the folder now."""
        entries = [self._known(each) for each in page]
        missing = [each for each, entry in zip(page, entries, strict=True) if entry is None]
        for each in self._pool.map(self._fetch, missing):
            if each is None:
                self.gone += 1
            else:
                self.copied += 1
                self.copied_bytes += each.n_bytes
                entries.append(each)
        return [entry for entry in entries if entry is not None]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
        if self._earlier is not None:
            self._earlier.close()

    def _known(self, listed: StoredObject) -> ObjectEntry | None:
        """Return the entry of the backup before, if the object has not changed since."""
        entry = None if self._earlier is None else self._earlier.find(listed.key)
        if entry is None or (entry.n_bytes, entry.version) != (listed.n_bytes, listed.version):
            return None
        path = self._folder.object_path(entry.sha256)
        return entry if path.exists() and path.stat().st_size == entry.n_bytes else None

    def _fetch(self, listed: StoredObject) -> ObjectEntry | None:
        """Copy an object; None: it is gone.

        Raises:
            StorageUnavailable: the store failed.
            CommandError: the object has another size than it is listed with.
        """
        for _ in range(_READINGS):
            try:
                n_bytes, sha256 = self._folder.keep(str(uuid4()), self._storage.stream(listed.key))
            except StorageUnavailable:
                if self._storage.size(listed.key) is None:
                    return None
                raise
            if n_bytes in (listed.n_bytes, self._storage.size(listed.key)):
                return ObjectEntry(listed.key, n_bytes, listed.version, sha256)
        raise CommandError(
            f"the object store says that {listed.key} has {listed.n_bytes} bytes, and sends "
            f"{n_bytes}"
        )
