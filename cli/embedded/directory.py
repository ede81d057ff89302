"""The data directory of an embedded stack: its paths, secrets and lock.

DIR/lock               locked (flock) by the supervisor that runs here
DIR/stack.json         what the supervisor runs: the API's address, its children
DIR/credentials.json   generated once, readable by the owner only
DIR/postgres/          PGDATA
DIR/valkey/            Valkey's configuration; it stores no data
DIR/storage/longhand/  the bucket: one file per object
DIR/logs/SERVICE.log   and SERVICE.log.1, the one before
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from cli.errors import CommandError

MIN_FREE_BYTES = 256 * 1024**2
"""A stack is not started with less: a new cluster takes 50 MB, and WAL grows by 16 MB at a time."""

T = TypeVar("T")
Purpose = Literal["up", "transcribe"]

_REMEDIES = {
    "credentials.json": "put it back from a backup (without it the database cannot be opened), or "
    "choose another directory with --data",
    "stack.json": "end what an earlier longhand may have left running there, and delete the file",
}
"""What to do when a file is damaged."""


def default_path(env: Mapping[str, str] = os.environ) -> Path:
    """``$LONGHAND_DATA``, else ``longhand`` under the user's data home (XDG Base Directory)."""
    if chosen := env.get("LONGHAND_DATA"):
        return Path(chosen).expanduser().absolute()
    data_home = env.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data_home).expanduser().absolute() / "longhand"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets shared by the parts of one stack, in hexadecimal, so that URLs need no quoting."""

    postgres_password: str = field(repr=False)
    """The superuser's, who owns the tables."""
    postgres_api_password: str = field(repr=False)
    postgres_worker_password: str = field(repr=False)
    valkey_password: str = field(repr=False)
    s3_key: str
    s3_secret: str = field(repr=False)
    flower_password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """A process that the supervisor has started; pid and start time identify it for ever."""

    name: str
    pid: int
    created_at: float
    """Seconds since the epoch, as psutil reports it."""


@dataclass(frozen=True, slots=True)
class StackRecord:
    """What runs in a data directory, or was left there by a killed run."""

    purpose: Purpose
    supervisor_pid: int
    api_url: str
    children: tuple[ChildRecord, ...]


class DirectoryInUse(CommandError):
    """Another supervisor holds the data directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another longhand already runs in {path}; choose another directory with --data"
        )


class DataDirectory:
    """Paths, secrets and the lock of one data directory, which only its owner can read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.postgres = path / "postgres"
        self.valkey = path / "valkey"
        self.storage = path / "storage"
        self.logs = path / "logs"
        self._lock = path / "lock"
        self._record = path / "stack.json"
        self.credentials_file = path / "credentials.json"

    def create(self, for_files_bytes: int = 0) -> None:
        """Make the directory and its parts, unless they exist.

        Raises:
            CommandError: the path is not a directory, or has too little space for a stack and
                ``for_files_bytes`` of files.
            OSError: it cannot be made.
        """
        if self.path.exists() and not self.path.is_dir():
            raise CommandError(f"{self.path} is not a directory")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(self.path).free
        needed_bytes = MIN_FREE_BYTES + for_files_bytes
        if free_bytes < needed_bytes:
            raise CommandError(
                f"no space left in {self.path}: {free_bytes // 1024**2} MB free, "
                f"{needed_bytes // 1024**2} MB needed"
            )
        for part in (self.valkey, self.storage, self.logs):
            part.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only supervisor here; the kernel releases the lock however this process ends.

        Raises:
            DirectoryInUse: another process holds it.
        """
        with self._lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DirectoryInUse(self.path) from None
            yield

    def owner(self) -> StackRecord | None:
        """Return what the supervisor runs that holds the lock; None if nobody holds it.

        A supervisor that has just started has no record yet. It is taken for a ``transcribe``, so
        that callers wait for its end.
        """
        if not self._lock.exists():
            return None
        with self._lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self.read_record() or StackRecord("transcribe", 0, "", ())
            return None

    def credentials(self) -> Credentials:
        """Return the secrets; missing ones are generated and stored.

        Raises:
            CommandError: the file is damaged. New secrets would not open the database.
        """
        known: dict[str, str] = {}
        with suppress(FileNotFoundError):
            known = _read(self.credentials_file, dict[str, str])
        fresh = {
            "postgres_password": secrets.token_hex(24),
            "postgres_api_password": secrets.token_hex(24),
            "postgres_worker_password": secrets.token_hex(24),
            "valkey_password": secrets.token_hex(24),
            "s3_key": secrets.token_hex(10),
            "s3_secret": secrets.token_hex(24),
            "flower_password": secrets.token_hex(12),
        }
        if fresh.keys() - known.keys():
            known = fresh | known
            write_private(self.credentials_file, json.dumps(known))
        return Credentials(**{name: known[name] for name in fresh})

    def write_record(self, record: StackRecord) -> None:
        """Write what runs here; readers never see half of it."""
        write_private(self._record, json.dumps(asdict(record), indent=1))

    def read_record(self) -> StackRecord | None:
        """Return what runs here, or what a killed run has left; None if nothing.

        Raises:
            CommandError: the file is damaged. It names processes that may still run.
        """
        try:
            return _read(self._record, StackRecord)
        except FileNotFoundError:
            return None

    def remove_record(self) -> None:
        """Write that nothing runs here."""
        self._record.unlink(missing_ok=True)


def _read(path: Path, kind: type[T]) -> T:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        CommandError: it is damaged.
    """
    from pydantic import TypeAdapter, ValidationError  # here, because it takes 0.1 s

    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise CommandError(f"{path} is damaged; {_REMEDIES[path.name]}") from error


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` by a file that only its owner can read."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
