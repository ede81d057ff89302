"""A database of any released version, with jobs in every state, is upgraded and goes on."""

from uuid import UUID

import pytest
from alembic import command
from sqlalchemy import Engine, text

from harness.jobs.job_store import claim, finish, transcribe
from harness.servers.databases import alembic_config, scratch_settings
from migrations.rows import ROWS, load, revisions
from shared.infra.database import make_engine
from shared.infra.schema import migrate
from shared.infra.settings import Settings
from shared.store import steps
from shared.store.events import Page, Place, read_pages
from shared.store.jobs.accuracy import get_text
from shared.store.jobs.read import get_job, get_manifest, list_jobs
from shared.store.jobs.retry import retry_job
from shared.store.transcripts import open_partial_transcript, open_transcript


def test_every_revision_has_rows_to_upgrade_from() -> None:
    assert sorted(path.stem for path in ROWS.glob("*.json")) == revisions()


@pytest.mark.parametrize("revision", revisions())
def test_an_upgraded_database_is_read_and_its_jobs_go_on(servers: Settings, revision: str) -> None:
    settings = scratch_settings(servers, f"upgraded_{revision}")
    command.upgrade(alembic_config(settings), revision)
    database = make_engine(settings)
    with database.begin() as connection:
        load(connection, revision)
    migrate(settings)

    jobs = list_jobs(database, "default", limit=100)
    states = [job.state for job in jobs]
    assert set(states) == {"queued", "running", "succeeded", "failed", "canceled"}
    for job in jobs:
        read_everything(database, job.id)
        if job.state in ("failed", "canceled"):
            retry_job(database, "default", job.id, max_attempts=3)
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET lease_until = now() WHERE state = 'running'"))
    steps.reap(database)
    for job in jobs:
        if job.plan_complete and job.state in ("running", "canceled"):
            complete(database, job.id)
            assert get_job(database, "default", job.id).state == "succeeded"
            read_everything(database, job.id)
    database.dispose()


def read_everything(database: Engine, job_id: UUID) -> None:
    """Read all that the API can tell of a job."""
    place = Place("default", job_id, 0)
    page = read_pages(database, [place])[place]
    assert isinstance(page, Page)
    assert page.events
    partial = open_partial_transcript(database, "default", job_id)
    assert list(partial.segments) is not None
    if get_job(database, "default", job_id).state == "succeeded":
        transcript = open_transcript(database, "default", job_id)
        assert len(list(transcript.segments)) == len(list(transcript.segments_without_words))
        assert get_manifest(database, "default", job_id)
        assert get_text(database, "default", job_id)


def complete(database: Engine, job_id: UUID) -> None:
    """Do what is left of a job."""
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET run_at = now() WHERE state = 'queued'"))
        left = connection.execute(
            text("""
                SELECT idx FROM steps
                WHERE job_id = :id AND kind = 'transcribe' AND state = 'queued' ORDER BY idx
            """),
            {"id": job_id},
        ).scalars()
        chunks = list(left)
    for idx in chunks:
        transcribe(database, claim(database, job_id, "transcribe", idx))
    finish(database, claim(database, job_id, "finish"))
