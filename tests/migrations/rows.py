"""Rows in every state, as each released schema has had them: ``python tests/migrations/rows.py``.

The rows of a revision are written once, by that revision's own code, before the next migration is
made. Tests upgrade a database that holds them.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]  # run as a program, and imported by tests alike

from pydantic import SecretStr  # noqa: E402
from sqlalchemy import Connection, Engine, text  # noqa: E402
from uuid_utils.compat import uuid7  # noqa: E402

from cli.embedded.servers import running_servers  # noqa: E402
from harness.jobs.job_store import (  # noqa: E402
    CHUNK,
    add_batch,
    add_job,
    add_remote_job,
    claim,
    finish,
    new_job,
    prepare,
    transcribe,
)
from harness.jobs.registry import enter_worker  # noqa: E402
from harness.jobs.webhook_store import add_hook, create  # noqa: E402
from shared.infra.database import make_engine  # noqa: E402
from shared.infra.errors import StorageUnavailable, UnreadableMedia  # noqa: E402
from shared.infra.schema import MIGRATIONS  # noqa: E402
from shared.infra.settings import Settings  # noqa: E402
from shared.infra.webhooks.attempt import Attempt  # noqa: E402
from shared.store import steps  # noqa: E402
from shared.store.corrections import correct_segment, move  # noqa: E402
from shared.store.idempotency import take_key  # noqa: E402
from shared.store.jobs.cancel import cancel_job  # noqa: E402
from shared.store.jobs.create import create_job  # noqa: E402
from shared.store.limits import NO_LIMITS  # noqa: E402
from shared.store.share_links import create_share_link  # noqa: E402
from shared.store.states import StepKind  # noqa: E402
from shared.store.steps import NewStep  # noqa: E402
from shared.store.tables import metadata  # noqa: E402
from shared.store.uploads import (  # noqa: E402
    NewUpload,
    create_upload,
    finish_upload,
    note_digest,
)
from shared.store.usage import add_up_usage  # noqa: E402
from shared.store.webhooks.attempts import complete_attempt  # noqa: E402
from shared.store.webhooks.endpoints import JobWebhook  # noqa: E402
from shared.store.webhooks.faces import AssemblyAIFace  # noqa: E402
from shared.store.workers import note_bug, withdraw  # noqa: E402

ROWS = Path(__file__).parent / "rows"


def revisions() -> list[str]:
    """All revisions, oldest first."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))


_WRITTEN_COLUMNS = text("""
    SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
    WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
      AND attgenerated = ''
""")


def load(connection: Connection, revision: str) -> None:
    """Insert the rows of a revision into an empty database of that revision."""
    tables: dict[str, Any] = json.loads((ROWS / f"{revision}.json").read_text())
    # Tables refer to each other in circles: what checks that rests meanwhile.
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    for table, rows in tables.items():
        columns = connection.execute(_WRITTEN_COLUMNS, {"table": table}).scalar_one()
        connection.execute(
            text(f"""
                INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
                SELECT {columns} FROM json_populate_recordset(NULL::{table}, CAST(:rows AS json))
                ON CONFLICT DO NOTHING -- the migration itself inserts the tenant 'default'
            """),
            {"rows": json.dumps(rows)},
        )
    # Rows that are added from now on have ids after these.
    connection.execute(
        text("SELECT setval(CAST(oid AS regclass), 1000000) FROM pg_class WHERE relkind = 'S'")
    )


def fill(database: Engine) -> None:
    """Bring jobs into every state, and leave steps and deliveries in every state."""
    _, secret = add_hook(database, "https://hooks.example/x")
    del secret
    enter_worker(database, "cpu")
    withdraw(database, enter_worker(database, "model", "oracle"))
    enter_worker(database, "model", "oracle")
    note_bug(database, "model-oracle", StepKind.DETECT, "ValueError", "every detect step fails")

    add_job(database)  # queued
    add_job(database, source_bytes=100_000_000)  # large
    create_job(database, new_job(wanted_s=3600.0), max_attempts=3)  # a call
    told = AssemblyAIFace(secret_header="X-Token")
    create(database, webhook=JobWebhook("https://hooks.example/y", "a secret", told))
    add_remote_job(database, "https://files.example/a.mp3?token=x")
    claim(database, add_remote_job(database, "https://files.example/b.mp3"), "fetch")
    add_batch(database, 2)
    take_key(database, "default", "a key")
    original = _equal_job(database)
    _equal_job(database)  # waits for it
    preparing = claim(database, original, "prepare")
    held = [NewStep(idx, CHUNK) for idx in range(3)]
    steps.add_chunks(database, preparing, held, max_attempts=3, hold=True)
    steps.add_detect(database, preparing, [CHUNK], max_attempts=3)

    running = add_job(database)
    prepare(database, running, chunks=4)
    transcribe(database, claim(database, running, "transcribe", 0))
    away = StorageUnavailable("the object store is away")
    steps.retry(database, claim(database, running, "transcribe", 1), away, base_s=60)
    claim(database, running, "transcribe", 2)

    finishing = add_job(database)
    prepare(database, finishing, chunks=1)
    transcribe(database, claim(database, finishing, "transcribe"))

    short = add_job(database)
    only = NewStep(0, CHUNK, audio=bytes(32_000))
    steps.complete_prepare(
        database,
        claim(database, short, "prepare"),
        duration_s=1.0,
        metrics={},
        chunks=[only],
        max_attempts=3,
    )

    succeeded = create(database, reference="hello", metadata={"of": "a client"})
    prepare(database, succeeded, chunks=1)
    transcribe(database, claim(database, succeeded, "transcribe"))
    finish(database, claim(database, succeeded, "finish"))
    correct_segment(database, "default", succeeded, 0, "hello there", seen=0)
    move(database, "default", succeeded, "undo", seen=1)
    create_share_link(database, "default", succeeded)
    delivered = claim(database, succeeded, "deliver")
    complete_attempt(database, delivered, Attempt(200, 12.0, None))

    failed = add_job(database)
    unreadable = UnreadableMedia("no decoder understands the file")
    steps.fail(database, claim(database, failed, "prepare"), unreadable)
    refused = claim(database, failed, "deliver")
    complete_attempt(database, refused, Attempt(500, 12.0, "the receiver answered 500"))

    uploaded = NewUpload(uuid7(), "default", "a.wav", 3, sha256=None, resumable=False)
    whole = finish_upload(
        database, create_upload(database, uploaded, NO_LIMITS, keep_s=60), keep_s=60
    )
    upload = note_digest(database, whole, "0" * 64, keep_s=60)
    create_job(database, new_job(upload_id=upload.id, source_key=upload.key), max_attempts=3)

    add_up_usage(database)
    canceled = add_job(database)
    prepare(database, canceled, chunks=2)
    claim(database, canceled, "transcribe", 0)
    cancel_job(database, "default", canceled, max_attempts=3)


def _equal_job(database: Engine) -> UUID:
    job = new_job(fingerprint="the same")
    create_job(database, job, max_attempts=3)
    return job.id


def _dump(database: Engine) -> dict[str, Any]:
    with database.begin() as connection:
        return {
            table.name: connection.execute(
                text(f"SELECT coalesce(json_agg(t), '[]') FROM {table.name} AS t")
            ).scalar_one()
            for table in metadata.sorted_tables
        }


if __name__ == "__main__":
    with running_servers(Path(tempfile.mkdtemp())) as servers:
        engine = make_engine(Settings(database_url=SecretStr(servers.database_url)))
        fill(engine)
        rows = _dump(engine)
        engine.dispose()
    (ROWS / f"{revisions()[-1]}.json").write_text(json.dumps(rows, indent=1) + "\n")
