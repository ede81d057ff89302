"""Where a job's objects lie in the object store."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from shared.store.objects.keys import pcm_prefix, source_key


def id_of(made: datetime) -> UUID:
    """A UUIDv7, without its random bits."""
    return UUID(int=(int(made.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62))


def folder_of(made: datetime) -> str:
    return source_key(id_of(made)).rsplit("/", 2)[0]


def test_a_folder_has_the_jobs_of_about_a_minute() -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    made = [begun + timedelta(seconds=at) for at in range(3600)]

    assert 54 <= len({folder_of(at) for at in made}) <= 56


def test_all_objects_of_a_job_lie_in_a_folder_of_its_own() -> None:
    job_id = id_of(datetime(2026, 1, 1, tzinfo=UTC))

    assert source_key(job_id).startswith(pcm_prefix(job_id).removesuffix("pcm/"))
    assert f"/{job_id}/" in source_key(job_id)
