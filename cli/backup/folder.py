"""A folder of backups: one folder for each, and their objects, which they share.

DIR/lock                       locked (flock) while a backup is made here
DIR/20261127T164000Z/          a backup, by the UTC time of its rows
  TABLE.copy.gz                the rows of a table, in the text format of Postgres' COPY
  objects.db                   SQLite: which objects, with their sizes, versions and digests
  manifest.json                written last: without it the backup is not whole
DIR/objects/ab/abcdef...       an object's bytes, named by their SHA-256
"""

import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from cli.errors import CommandError

FORMAT = 1
_BLOCK_BYTES = 1024**2
_PAGE = 1000
"""Objects that are looked at together, as the store lists them."""


class TableEntry(BaseModel):
    """What a manifest says of a table."""

    columns: list[str]
    rows: int
    sha256: str
    """Of the compressed file."""


class ObjectsEntry(BaseModel):
    """What a manifest says of the objects."""

    count: int
    n_bytes: int
    sha256: str
    """Of objects.db."""


class Manifest(BaseModel):
    """What a backup is."""

    format: int
    version: str
    """Of Longhand."""
    schema_revision: str
    postgres: str
    at: datetime
    """When its rows were as they are in it; by the database's clock."""
    tables: dict[str, TableEntry]
    sequences: dict[str, int]
    objects: ObjectsEntry


class ObjectEntry(NamedTuple):
    """An object of a backup."""

    key: str
    n_bytes: int
    version: str
    sha256: str


class ObjectIndex:
    """The objects of one backup, in a file, as there may be millions. For one thread."""

    def __init__(self, path: Path, *, new: bool = False) -> None:
        self._connection = sqlite3.connect(
            path if new else f"{path.absolute().as_uri()}?mode=ro", uri=not new
        )
        if new:
            self._connection.execute("PRAGMA journal_mode = OFF")
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute(
                "CREATE TABLE objects (key TEXT PRIMARY KEY, n_bytes INTEGER NOT NULL, "
                "version TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
            )

    def add(self, entries: Sequence[ObjectEntry]) -> None:
        """Add objects; one that was added before is replaced."""
        self._connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", entries)

    def find(self, key: str) -> ObjectEntry | None:
        """Return the object of a key."""
        row = self._connection.execute(
            "SELECT key, n_bytes, version, sha256 FROM objects WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else ObjectEntry(*row)

    def totals(self) -> tuple[int, int]:
        """Return how many objects there are, and their bytes."""
        row = self._connection.execute("SELECT count(*), sum(n_bytes) FROM objects").fetchone()
        return row[0], row[1] or 0

    def pages(self) -> Iterator[list[ObjectEntry]]:
        """Yield all objects in the order of their keys, some at a time."""
        last = ""
        while True:
            rows = self._connection.execute(
                "SELECT key, n_bytes, version, sha256 FROM objects WHERE key > ? "
                "ORDER BY key LIMIT ?",
                (last, _PAGE),
            ).fetchall()
            if not rows:
                return
            yield [ObjectEntry(*row) for row in rows]
            last = rows[-1][0]

    def close(self) -> None:
        """Write what is pending."""
        self._connection.commit()
        self._connection.close()


class Backup:
    """One backup."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index_path = path / "objects.db"
        self._manifest_path = path / "manifest.json"

    def table_path(self, table: str) -> Path:
        """Return where a table's rows are."""
        return self.path / f"{table}.copy.gz"

    @property
    def is_whole(self) -> bool:
        """Whether it was made to its end."""
        return self._manifest_path.exists()

    def index(self) -> ObjectIndex:
        """Open the list of its objects."""
        return ObjectIndex(self.index_path)

    def manifest(self) -> Manifest:
        """Return its manifest.

        Raises:
            CommandError: it is not whole, is damaged, or of another format.
        """
        try:
            found = Manifest.model_validate_json(self._manifest_path.read_bytes())
        except FileNotFoundError:
            raise CommandError(
                f"{self.path} is not a whole backup: it has no manifest.json, which is written last"
            ) from None
        except ValidationError as error:
            raise CommandError(
                f"{self._manifest_path} is damaged, or of another version"
            ) from error
        if found.format != FORMAT:
            raise CommandError(f"{self.path} has format {found.format}, not {FORMAT}")
        if digest_of(self.index_path) != found.objects.sha256:
            raise CommandError(f"{self.index_path} is damaged: its digest is another one")
        return found

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, once all that it speaks of is on the disk."""
        os.sync()
        draft = self._manifest_path.with_suffix(".new")
        draft.write_text(manifest.model_dump_json(indent=1) + "\n")
        draft.replace(self._manifest_path)
        os.sync()


class BackupFolder:
    """A folder of backups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._objects = path / "objects"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, unless it exists, and be alone in it.

        Raises:
            CommandError: another backup is made here.
        """
        self._objects.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        with (self.path / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(f"another backup is being made in {self.path}") from None
            for left in self._objects.glob("*.new"):
                left.unlink()
            yield

    def backups(self) -> list[Backup]:
        """Return the whole backups, oldest first."""
        found = [Backup(path) for path in sorted(self.path.glob("????????T??????Z"))]
        return [backup for backup in found if backup.is_whole]

    def begin(self, at: datetime) -> Backup:
        """Make the folder of a backup; what an earlier run has left of others is removed."""
        for path in self.path.glob("????????T??????Z"):
            if not Backup(path).is_whole:
                shutil.rmtree(path)
        path = self.path / f"{at:%Y%m%dT%H%M%SZ}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            raise CommandError(f"{path} is a backup of this second") from None
        return Backup(path)

    def object_path(self, sha256: str) -> Path:
        """Return where an object's bytes are."""
        return self._objects / sha256[:2] / sha256

    def keep(self, name: str, blocks: Iterator[bytes]) -> tuple[int, str]:
        """Store an object's bytes, unless they are there; return their number and digest.

        ``name`` is that of a temporary file, and nobody else's.
        """
        draft = self._objects / f"{name}.new"
        digest, n_bytes = hashlib.sha256(), 0
        try:
            with draft.open("wb") as file:
                for block in blocks:
                    file.write(block)
                    digest.update(block)
                    n_bytes += len(block)
            target = self.object_path(digest.hexdigest())
            target.parent.mkdir(mode=0o700, exist_ok=True)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return n_bytes, digest.hexdigest()

    def prune(self, keep: int) -> int:
        """Remove all but the newest whole backups, and objects that none has; return how many."""
        old = self.backups()[:-keep]
        for backup in old:
            # Without its manifest first, so that half of it is never taken for a backup.
            (backup.path / "manifest.json").unlink()
            shutil.rmtree(backup.path)
        if old:
            self._remove_objects_of_none()
        return len(old)

    def _remove_objects_of_none(self) -> None:
        used_path = self.path / "used.db"
        used_path.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(used_path)) as used:
                used.execute("PRAGMA journal_mode = OFF")
                used.execute("CREATE TABLE used (sha256 TEXT PRIMARY KEY) WITHOUT ROWID")
                for backup in self.backups():
                    with closing(backup.index()) as index:
                        for page in index.pages():
                            used.executemany(
                                "INSERT OR IGNORE INTO used VALUES (?)",
                                [(entry.sha256,) for entry in page],
                            )
                for part in self._objects.iterdir():
                    for path in part.iterdir():
                        row = used.execute("SELECT 1 FROM used WHERE sha256 = ?", (path.name,))
                        if row.fetchone() is None:
                            path.unlink()
        finally:
            used_path.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blocks_of(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, up to 1 MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def newest(path: Path) -> tuple[BackupFolder, Backup]:
    """Return the folder and the backup that a path names: a backup, or the newest of a folder.

    Raises:
        CommandError: there is none.
    """
    if (path / "objects").is_dir():
        folder = BackupFolder(path)
        backups = folder.backups()
        if not backups:
            raise CommandError(f"{path} has no whole backup")
        return folder, backups[-1]
    if (path.absolute().parent / "objects").is_dir():
        return BackupFolder(path.absolute().parent), Backup(path)
    raise CommandError(f"{path} is no folder of backups")
