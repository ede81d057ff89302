"""SQL statements and transactions by service, read from the log of the platform's own Postgres."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.platform import Platform

_LOGGED = {
    "log_statement": "'all'",
    "log_line_prefix": "'@bench %p %r '",
    "log_parameter_max_length": "0",
}
_LINE = re.compile(
    r"^@bench (?P<backend>\d+) \S*\((?P<port>\d+)\) LOG:  "
    r"(?:statement|execute [^:]*): (?P<text>.*)",
    re.DOTALL,
)
_BEGINS, _ENDS = ("BEGIN",), ("COMMIT", "ROLLBACK")
_PREFIX = "SELECT set_config('longhand.tenant'"


@dataclass(slots=True)
class Statement:
    """One statement that a client sent."""

    service: str
    backend: int
    text: str
    """White space folded; parameters are $1 and so on."""

    @property
    def is_ping(self) -> bool:
        """Whether it asks for nothing: a connection pool tests its connection."""
        return not self.text.strip("; ")

    @property
    def begins(self) -> bool:
        """Whether it opens a transaction."""
        return self.text.startswith(_BEGINS)

    @property
    def ends(self) -> bool:
        """Whether it closes a transaction."""
        return self.text.startswith(_ENDS)

    @property
    def is_prefix(self) -> bool:
        """Whether it was sent along with the next statement, in one transaction."""
        return self.text.startswith(_PREFIX)


@dataclass(slots=True)
class Count:
    """What one service sent."""

    statements: int = 0
    """Without those that open and close transactions, and without pings."""
    transactions: int = 0
    """Explicit ones, and statements outside of any."""
    pings: int = 0


@dataclass(slots=True)
class StatementLog:
    """What reaches a platform's Postgres from now on."""

    platform: Platform
    own_backend: int
    _offset: int = 0
    _open: set[int] = field(default_factory=set)
    """Backends within an explicit transaction."""
    _ports: dict[int, str] = field(default_factory=dict)

    def read(self) -> list[Statement]:
        """Return what was sent since the last call, in order; our own statements left out."""
        self._ports |= self.platform.services_by_port()
        path = self.platform.data / "logs" / "postgres.log"
        if path.stat().st_size < self._offset:
            raise SystemExit("bench: the log of Postgres was cut; measure fewer jobs")
        with path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        # A statement's further lines begin with a tab.
        records = re.split(r"\n(?!\t)", new.decode(errors="replace"))
        return [*self._parse(records)]

    def _parse(self, records: list[str]) -> Iterator[Statement]:
        for record in records:
            if (found := _LINE.match(record)) and int(found["backend"]) != self.own_backend:
                service = self._ports.get(int(found["port"]), "unknown")
                yield Statement(service, int(found["backend"]), " ".join(found["text"].split()))

    def count(self, statements: list[Statement]) -> dict[str, Count]:
        """Return what each service sent, of statements in their order."""
        counts: dict[str, Count] = {}
        for statement in statements:
            count = counts.setdefault(statement.service, Count())
            if statement.is_ping:
                count.pings += 1
            elif statement.begins:
                self._open.add(statement.backend)
                count.transactions += 1
            elif statement.ends:
                self._open.discard(statement.backend)
            else:
                count.statements += 1
                count.transactions += (
                    statement.backend not in self._open and not statement.is_prefix
                )
        return counts


@contextmanager
def statement_log(platform: Platform) -> Iterator[StatementLog]:
    """Have Postgres log every statement while the block runs."""
    with platform.database() as connection:
        for name, value in _LOGGED.items():
            connection.execute(f"ALTER SYSTEM SET {name} = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")
        try:
            log = StatementLog(platform, connection.info.backend_pid)
            log.read()
            yield log
        finally:
            for name in _LOGGED:
                connection.execute(f"ALTER SYSTEM RESET {name}".encode())
            connection.execute("SELECT pg_reload_conf()")
