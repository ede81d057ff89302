"""A service that all jobs need is away."""

from shared.infra.errors.base import TransientError


class Outage(TransientError):
    """A service that all jobs need is away; the step is not at fault."""


class DatabaseUnavailable(Outage):
    """Postgres cannot be reached."""


class CommitUncertain(DatabaseUnavailable):
    """The connection broke during the commit: the transaction was written as a whole or not."""

    code = DatabaseUnavailable.code


class DatabaseBusy(DatabaseUnavailable):
    """Postgres gave up the transaction (a deadlock, a conflict, a limit) or lacks resources."""


class DatabaseFull(DatabaseUnavailable):
    """The disk of Postgres is full: reads go on, writes do not."""


class DatabaseReadOnly(DatabaseUnavailable):
    """Postgres takes no writes: it is a standby, or its operator has set it so."""


class SchemaMissing(DatabaseUnavailable):
    """The database lacks this version's schema or a part of it: it must be migrated first."""


class DatabaseUnfit(DatabaseUnavailable):
    """A database that this version cannot use: waiting does not help."""


class StorageUnavailable(Outage):
    """The object store cannot be reached or answers with server errors."""


class BrokerUnavailable(Outage):
    """Redis cannot be reached."""
