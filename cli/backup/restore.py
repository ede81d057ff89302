"""Restores a backup into an empty database and an empty bucket."""

import gzip
import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine

from cli.backup.folder import (
    Backup,
    BackupFolder,
    Manifest,
    ObjectEntry,
    blocks_of,
    digest_of,
    newest,
)
from cli.backup.make import ANSWER_S, COPIES
from cli.errors import CommandError
from shared.infra.database import begin, make_engine
from shared.infra.schema import migrate, own_revision
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.backup.objects import PREFIXES, Lost, lose_others, needed, note_restored
from shared.store.backup.restart import begin_anew
from shared.store.backup.rows import TABLES, empty_tables, is_unused, load_table, set_sequences


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was restored."""

    path: Path
    jobs: int
    objects: int
    n_bytes: int
    lost: Lost
    took_s: float


def restore_backup(settings: Settings, path: Path, say: Callable[[str], None]) -> Restored:
    """Restore a backup, or the newest of a folder, into an empty database and bucket.

    Rows are committed when all objects are stored: a restore that was cut short is begun again.

    Raises:
        CommandError: the backup is damaged or of another schema, or there is something already
            where it is to be restored.
        LonghandError: Postgres or the object store failed.
    """
    began = time.monotonic()
    folder, backup = newest(path)
    manifest = backup.manifest()
    if manifest.schema_revision != own_revision():
        raise CommandError(
            f"{backup.path} was made by Longhand {manifest.version} with schema "
            f"{manifest.schema_revision}, and this version has {own_revision()}: restore it with "
            "that version, and upgrade then"
        )
    engine = make_engine(settings, pool_size=1, answer_s=ANSWER_S)
    storage = Storage(settings.storage_url.get_secret_value(), connections=COPIES)
    try:
        migrate(settings)
        storage.create_bucket()
        _refuse_what_is_used(engine, storage, backup)
        with empty_tables(engine) as connection:
            say(f"loading the rows of {manifest.at:%Y-%m-%d %H:%M:%S} UTC")
            _load(connection, backup, manifest)
            begin_anew(connection)
            say(f"storing up to {manifest.objects.count} objects")
            count, n_bytes = _store(connection, storage, folder, backup)
            lost = lose_others(connection)
    finally:
        engine.dispose()
    return Restored(
        path=backup.path,
        jobs=manifest.tables["jobs"].rows,
        objects=count,
        n_bytes=n_bytes,
        lost=lost,
        took_s=time.monotonic() - began,
    )


def _refuse_what_is_used(engine: Engine, storage: Storage, backup: Backup) -> None:
    with begin(engine) as connection:
        if not is_unused(connection):
            raise CommandError(
                "the database is in use: a backup is restored into an empty one only"
            )
    with closing(backup.index()) as index:
        for prefix in PREFIXES:
            for page in storage.objects(prefix):
                for found in page:
                    # A restore that was cut short has left objects of this backup.
                    if index.find(found.key) is None:
                        raise CommandError(
                            f"the bucket is in use: it has {found.key}, which is not in the backup"
                        )


def _load(connection: Connection, backup: Backup, manifest: Manifest) -> None:
    for table in TABLES:
        entry, path = manifest.tables[table], backup.table_path(table)
        if digest_of(path) != entry.sha256:
            raise CommandError(f"{path} is damaged: its digest is another one")
        rows = load_table(connection, table, entry.columns, _decompressed(path))
        if rows != entry.rows:
            raise CommandError(f"{path} has {rows} rows, and the manifest says {entry.rows}")
    set_sequences(connection, manifest.sequences)


def _decompressed(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while block := file.read(1024**2):
            yield block


def _store(
    connection: Connection, storage: Storage, folder: BackupFolder, backup: Backup
) -> tuple[int, int]:
    """Store the objects that the rows need; return how many, and their bytes."""
    count = n_bytes = 0
    with closing(backup.index()) as index, ThreadPoolExecutor(COPIES) as pool:
        for page in index.pages():
            wanted = needed(connection, [entry.key for entry in page])
            entries = [entry for entry in page if entry.key in wanted]
            for entry in pool.map(partial(_upload, storage, folder), entries):
                count += 1
                n_bytes += entry.n_bytes
            note_restored(connection, [entry.key for entry in entries])
    return count, n_bytes


def _upload(storage: Storage, folder: BackupFolder, entry: ObjectEntry) -> ObjectEntry:
    """Store an object, if its bytes are those that were copied.

    Raises:
        CommandError: they are not.
    """
    path = folder.object_path(entry.sha256)
    if not path.exists():
        raise CommandError(f"{path} is missing: the backup is damaged")
    if entry.n_bytes <= PART_BYTES:
        data = path.read_bytes()
        _compare(path, hashlib.sha256(data).hexdigest(), entry)
        storage.put(entry.key, data)
        return entry
    digest = hashlib.sha256()
    upload = storage.start_upload(entry.key)
    try:
        part, number = bytearray(), 0
        for block in blocks_of(path):
            digest.update(block)
            part += block
            if len(part) >= PART_BYTES:  # a multiple of the blocks' size
                upload.send(number := number + 1, part)
                part = bytearray()
        if part:
            upload.send(number + 1, part)
        _compare(path, digest.hexdigest(), entry)
    except BaseException:
        upload.abort()
        raise
    upload.finish()
    return entry


def _compare(path: Path, sha256: str, entry: ObjectEntry) -> None:
    if sha256 != entry.sha256:
        raise CommandError(f"{path} is damaged: its digest is another one")
