"""Uploads in the database: what jobs take of them, who sees them, and when they go."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from api.uploads.transfers import Transfers
from harness.jobs.job_store import claim, new_job, prepare
from harness.jobs.removals import pending, remove_all
from shared.infra.errors import (
    DigestMismatch,
    InvalidRequest,
    OffsetMismatch,
    StorageUnavailable,
    UploadIncomplete,
    UploadNotFound,
)
from shared.infra.storage import Storage
from shared.store.accounts.tenants import create_tenant
from shared.store.expired_uploads import remove_expired, remove_unknown
from shared.store.jobs.create import create_job
from shared.store.jobs.delete import delete_job
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import UPLOADS, upload_key
from shared.store.retention import expire_audio
from shared.store.states import JobState, UploadState
from shared.store.uploads import (
    NewUpload,
    Upload,
    begin_append,
    commit_append,
    delete_upload,
    get_upload,
)

DAY_S = 86_400.0


@pytest.fixture
def transfers(database: Engine, storage: Storage) -> Transfers:
    return Transfers(database, storage, keep_s=DAY_S)


def begin(transfers: Transfers, *, tenant: str = "default", resumable: bool = False) -> Upload:
    new = NewUpload(uuid7(), tenant, "a.wav", 3, sha256=None, resumable=resumable)
    return transfers.create(new, NO_LIMITS)


def complete(transfers: Transfers, **options: str) -> Upload:
    upload = begin(transfers, **options)  # type: ignore[arg-type]
    transfers.multipart(upload).send(1, b"abc")
    return transfers.verify(transfers.finish(upload))


def job_of(database: Engine, upload: Upload, **fields: object) -> UUID:
    job = new_job(
        tenant=upload.tenant,
        upload_id=upload.id,
        source_key=upload.key,
        source_bytes=upload.size_bytes,
        sha256=upload.sha256,
        **fields,
    )
    return create_job(database, job, max_attempts=3).job_id


def expire(database: Engine, upload: Upload) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE uploads SET expires_at = now() WHERE id = :id"), {"id": upload.id}
        )


def is_there(storage: Storage, upload: Upload) -> bool:
    return storage.size(upload.key) is not None


def succeed(database: Engine, job_id: UUID) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE id = :id"),
            {"id": job_id},
        )


def test_jobs_are_made_of_an_upload_any_number_of_times_and_read_its_object(
    transfers: Transfers, database: Engine
) -> None:
    upload = complete(transfers)
    jobs = [job_of(database, upload) for _ in range(2)]
    for job_id in jobs:
        assert claim(database, job_id, "prepare").source_key == upload_key(upload.id)
    assert get_upload(database, "default", upload.id).held


def test_equal_jobs_of_an_upload_and_of_a_file_share_a_transcript(
    transfers: Transfers, database: Engine
) -> None:
    upload = complete(transfers)
    original = new_job(fingerprint="the same", sha256=upload.sha256)
    create_job(database, original, max_attempts=3)
    copy = job_of(database, upload, fingerprint="the same")
    with database.connect() as connection:
        found = connection.execute(
            text("SELECT original_id FROM jobs WHERE id = :id"), {"id": copy}
        ).scalar_one()
    assert found == original.id


def test_an_upload_that_the_store_cannot_begin_takes_no_place(database: Engine) -> None:
    away = Storage("http://k:s@127.0.0.1:1/bucket", attempts=1)
    new = NewUpload(uuid7(), "default", "a.wav", 3, sha256=None, resumable=False)
    with pytest.raises(StorageUnavailable):
        Transfers(database, away, keep_s=DAY_S).create(new, NO_LIMITS)
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM uploads")).scalar_one() == 0


def test_no_job_is_made_of_an_upload_that_is_not_complete(
    transfers: Transfers, database: Engine
) -> None:
    upload = begin(transfers)
    with pytest.raises(UploadIncomplete):
        job_of(database, upload)
    transfers.multipart(upload).send(1, b"abc")
    whole = transfers.finish(upload)
    assert whole.state is UploadState.VERIFYING
    with pytest.raises(UploadIncomplete):
        job_of(database, upload)
    failed = transfers.note(whole, 64 * "0")
    assert failed.state is UploadState.COMPLETE  # none was declared


def test_no_job_is_made_of_one_that_is_not_the_declared_file(
    transfers: Transfers, database: Engine, storage: Storage
) -> None:
    new = NewUpload(uuid7(), "default", "a.wav", 3, sha256=64 * "0", resumable=False)
    upload = transfers.create(new, NO_LIMITS)
    transfers.multipart(upload).send(1, b"abc")
    assert transfers.verify(transfers.finish(upload)).state is UploadState.FAILED
    with pytest.raises(DigestMismatch):
        job_of(database, upload)
    remove_all(database, storage)
    assert not is_there(storage, upload)


def test_another_tenants_upload_is_as_one_that_there_is_not(
    transfers: Transfers, database: Engine
) -> None:
    create_tenant(database, "acme", "Acme Ltd")
    upload = complete(transfers, tenant="acme")
    with pytest.raises(UploadNotFound, match=f"there is no upload {upload.id}"):
        get_upload(database, "default", upload.id)
    with pytest.raises(UploadNotFound):
        delete_upload(database, "default", upload.id)
    with pytest.raises(UploadNotFound):
        begin_append(database, "default", upload.id, 0, keep_s=DAY_S)
    job = new_job(upload_id=upload.id, source_key=upload.key)
    with pytest.raises(UploadNotFound):
        create_job(database, job, max_attempts=3)


def test_an_upload_that_no_job_uses_goes_when_it_expires(
    transfers: Transfers, database: Engine, storage: Storage
) -> None:
    unfinished, unused, used = begin(transfers), complete(transfers), complete(transfers)
    job_of(database, used)
    assert remove_expired(database, storage, limit=10) == 0
    for upload in (unfinished, unused, used):
        expire(database, upload)

    assert remove_expired(database, storage, limit=10) == 2
    remove_all(database, storage)
    assert transfers.multipart(unfinished).parts() is None
    assert not is_there(storage, unused)
    assert is_there(storage, used)
    for upload in (unfinished, unused):
        with pytest.raises(UploadNotFound):
            get_upload(database, "default", upload.id)
    assert get_upload(database, "default", used.id).held


def test_a_used_upload_goes_with_the_last_of_its_jobs(
    transfers: Transfers, database: Engine, storage: Storage
) -> None:
    upload = complete(transfers)
    first, second = job_of(database, upload), job_of(database, upload)
    delete_job(database, "default", first, max_attempts=3)
    assert get_upload(database, "default", upload.id).held
    delete_job(database, "default", second, max_attempts=3)
    with pytest.raises(UploadNotFound):
        get_upload(database, "default", upload.id)
    remove_all(database, storage)
    assert not is_there(storage, upload)


def test_a_used_upload_goes_with_the_audio_of_its_job(
    transfers: Transfers, database: Engine, storage: Storage
) -> None:
    upload = complete(transfers)
    job_id = job_of(database, upload)
    prepare(database, job_id, 1)
    succeed(database, job_id)
    assert expire_audio(database, JobState.SUCCEEDED, keep_s=0, limit=10) == 1
    with pytest.raises(UploadNotFound):
        get_upload(database, "default", upload.id)
    remove_all(database, storage)
    assert not is_there(storage, upload)


def test_a_deleted_upload_is_kept_for_its_job_alone(
    transfers: Transfers, database: Engine, storage: Storage
) -> None:
    upload = complete(transfers)
    job_id = job_of(database, upload)
    transfers.delete("default", upload.id)
    with pytest.raises(UploadNotFound):
        get_upload(database, "default", upload.id)
    with pytest.raises(UploadNotFound):
        job_of(database, upload)
    assert pending(database) == []
    assert is_there(storage, upload)
    delete_job(database, "default", job_id, max_attempts=3)
    remove_all(database, storage)
    assert not is_there(storage, upload)


def test_a_job_that_is_refused_leaves_its_upload_as_it_was(
    transfers: Transfers, database: Engine
) -> None:
    upload = complete(transfers)
    with pytest.raises(InvalidRequest):
        job_of(database, upload, reference="...")
    assert not get_upload(database, "default", upload.id).held


def test_an_append_that_was_overtaken_commits_nothing(
    transfers: Transfers, database: Engine
) -> None:
    upload = begin(transfers, resumable=True)
    first = begin_append(database, "default", upload.id, 0, keep_s=DAY_S)
    second = begin_append(database, "default", upload.id, 0, keep_s=DAY_S)
    with pytest.raises(OffsetMismatch):
        commit_append(database, first, 1, keep_s=DAY_S)
    commit_append(database, second, 2, keep_s=DAY_S)
    assert get_upload(database, "default", upload.id).offset_bytes == 2


def test_an_object_that_was_completed_by_a_process_that_died_is_found(
    transfers: Transfers, database: Engine
) -> None:
    upload = begin(transfers)
    multipart = transfers.multipart(upload)
    multipart.send(1, b"abc")
    multipart.finish()
    found, _ = transfers.look(upload)
    assert found.state is UploadState.VERIFYING


def test_multipart_uploads_that_no_upload_has_are_aborted(
    transfers: Transfers, database: Engine, storage: Storage
) -> None:
    known = begin(transfers)
    unknown = storage.start_upload(upload_key(uuid7()))
    unknown.send(1, b"abc")
    now = datetime.now(UTC)
    an_hour_ago = now - timedelta(hours=1)
    assert remove_unknown(database, storage, prefix=UPLOADS, older_than=an_hour_ago) == 0
    later = now + timedelta(minutes=1)
    assert remove_unknown(database, storage, prefix=UPLOADS, older_than=later) >= 1
    assert unknown.parts() is None
    assert transfers.multipart(known).parts() == {}
