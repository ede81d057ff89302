"""What Postgres has to do for a query, for tests that bound it."""

from typing import Any

from sqlalchemy import Engine, text


def explain(
    database: Engine,
    query: str,
    parameters: dict[str, Any],
    *,
    tenant: str | None = None,
    analyzed: bool = True,
) -> dict[str, Any]:
    """Run a query on tables that seem large, for a tenant in the API's role; return its plan.

    Unless ``analyzed``, it is planned by what Postgres knew of the tables before.
    """
    with database.begin() as connection:
        if analyzed:
            connection.execute(text("ANALYZE jobs, steps"))
        for small in ("seqscan", "bitmapscan"):  # what is chosen for so few rows alone
            connection.execute(text(f"SET LOCAL enable_{small} = off"))
        if tenant is not None:
            connection.execute(text("SET LOCAL ROLE longhand_api"))
            connection.execute(
                text("SELECT set_config('longhand.tenant', :id, true)"), {"id": tenant}
            )
        plan: dict[str, Any] = connection.execute(
            text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"), parameters
        ).scalar_one()[0]["Plan"]
        return plan


def most_rows(plan: dict[str, Any]) -> float:
    """The most rows that any part of a query had to do with."""
    own = plan["Actual Rows"] * plan["Actual Loops"]
    return max(own, *map(most_rows, plan.get("Plans", [])), 0)


def buffers(plan: dict[str, Any]) -> int:
    """How many pages a query read or had in memory already, all its parts together."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
