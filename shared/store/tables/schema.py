"""What the tables are made of."""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Index,
    MetaData,
    text,
)


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Return the constraint that a column holds one of these values."""
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


def not_null(
    name: str, kind: Any, *, default: Any = None, comment: str | None = None, index: bool = False
) -> Column[Any]:
    """Return a column that is never null."""
    return Column(
        name, kind, nullable=False, server_default=default, comment=comment, index=index or None
    )


def partial_index(name: str | None, columns: str, *, where: str, **options: Any) -> Index:
    """Return an index on columns, separated by blanks, of the rows where a condition holds."""
    return Index(name, *columns.split(), postgresql_where=text(where), **options)


TIME = DateTime(timezone=True)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
