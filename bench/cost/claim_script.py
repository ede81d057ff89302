"""``python claim_script.py N_STEPS N_TENANTS``: what a claim costs while so many steps wait.

It belongs to the tree that is on the path, whose store it asks for steps. It prints a JSON object:
'execution_ms' and 'buffers' (8 KiB pages), medians of what Postgres says of a claim, and 'call_ms',
the median of the whole call; or null, where the tree's store has no such claim.
"""

import importlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, text

QUEUE = "model.oracle"
CHUNKS_PER_JOB = 10
ROUNDS = 30
CLAIMS_PER_ROUND = 5
LEASE_S = 30.0


def measure(engine: Engine, claim_next: Any, n_steps: int, n_tenants: int) -> dict[str, float]:
    """Claim steps while ``n_steps`` wait, and keep their number."""
    fill(engine, n_steps, n_tenants)
    calls_ms: list[float] = []
    executions_ms: list[float] = []
    buffers: list[float] = []
    seen: list[tuple[str, Any]] = []

    execute = psycopg.Cursor.execute

    def see(cursor: Any, statement: Any, parameters: Any = None, **options: Any) -> Any:
        seen.append((statement, parameters))
        return execute(cursor, statement, parameters, **options)

    for _ in range(ROUNDS):
        with mock.patch.object(psycopg.Cursor, "execute", see):
            for _ in range(CLAIMS_PER_ROUND):
                seen.clear()
                began = time.perf_counter()
                taken = claim_next(engine, QUEUE, owner="bench", lease_s=LEASE_S, limit=1)
                calls_ms.append(1000 * (time.perf_counter() - began))
                if len(taken.claims) != 1:
                    raise SystemExit(f"bench: {len(taken.claims)} steps claimed instead of one")
        statements = [*seen]
        plans = [plan for sent in statements for plan in explain(engine, *sent)]
        executions_ms.append(sum(plan["Execution Time"] for plan in plans))
        buffers.append(
            sum(plan["Plan"][f"Shared {k} Blocks"] for plan in plans for k in ("Hit", "Read"))
        )
        with engine.begin() as connection:
            connection.execute(text("UPDATE steps SET state = 'queued' WHERE state = 'running'"))
    return {
        "execution_ms": statistics.median(executions_ms),
        "buffers": statistics.median(buffers),
        "call_ms": statistics.median(calls_ms),
    }


def explain(engine: Engine, statement: str, parameters: Any) -> list[dict[str, Any]]:
    """Run a statement, undo it, and return its plan with times and buffers."""
    with engine.connect() as connection:
        plans: list[dict[str, Any]] = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
        ).scalar_one()
        connection.rollback()
        return plans


def fill(engine: Engine, n_steps: int, n_tenants: int) -> None:
    """Have chunks wait: those of a job are numbered through, tenants have equally many."""
    per_job = min(CHUNKS_PER_JOB, -(-n_steps // n_tenants))
    numbers = {"n_jobs": n_steps // per_job, "n_tenants": n_tenants, "per_job": per_job}
    with engine.begin() as connection:
        insert(
            connection,
            "jobs",
            {
                "id": "gen_random_uuid()",
                "tenant": "'tenant-' || n % :n_tenants",
                "state": "'running'",
                "model": "'oracle'",
                "options": """'{"model": "oracle", "vad": "energy"}'""",
                "source_key": "'sources/' || n",
                "source_name": "'bench.wav'",
                "source_bytes": "1",
                "sha256": "md5(n::text)",
                "plan_complete": "true",
                "chunks_total": ":per_job",
                "first_event": "n + 1",
            },
            "generate_series(0, :n_jobs - 1) AS n",
            numbers,
        )
        insert(
            connection,
            "steps",
            {
                "job_id": "jobs.id",
                "kind": "'transcribe'",
                "idx": "idx",
                "queue": f"'{QUEUE}'",
                "tenant": "jobs.tenant",
                "rank": "0",
                "job_turn": "idx",
                "tenant_turn": "row_number() OVER (PARTITION BY jobs.tenant ORDER BY jobs.id, idx)",
                "state": "'queued'",
                "max_attempts": "5",
            },
            "jobs CROSS JOIN generate_series(0, :per_job - 1) AS idx ORDER BY random()",
            numbers,
        )
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE"))


def insert(
    connection: Connection,
    table: str,
    values: dict[str, str],
    source: str,
    numbers: dict[str, int],
) -> None:
    """Insert rows; columns that the tree's schema lacks are left out."""
    known = connection.execute(
        text("SELECT column_name FROM information_schema.columns WHERE table_name = :table"),
        {"table": table},
    ).scalars()
    present = values.keys() & set(known)
    columns = [name for name in values if name in present]
    selected = ", ".join(values[name] for name in columns)
    connection.execute(
        text(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {selected} FROM {source}"),
        numbers,
    )


def main() -> None:
    """Measure on a database of our own."""
    try:
        claim_next = importlib.import_module("shared.store.steps").claim_next
    except (ModuleNotFoundError, AttributeError):
        print("null")
        return
    database = importlib.import_module("shared.infra.database")
    settings = importlib.import_module("shared.infra.settings")
    stack = importlib.import_module("cli.embedded.servers")
    with (
        tempfile.TemporaryDirectory() as folder,
        stack.running_servers(Path(folder) / "data") as servers,
    ):
        engine = database.make_engine(
            settings.Settings(database_url=SecretStr(servers.database_url))
        )
        print(json.dumps(measure(engine, claim_next, int(sys.argv[1]), int(sys.argv[2]))))
        engine.dispose()


if __name__ == "__main__":
    main()
