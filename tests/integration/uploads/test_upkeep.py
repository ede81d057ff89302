"""The upkeep of uploads, as the beat worker does it."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from harness.jobs.removals import remove_all
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import upload_key
from shared.store.uploads import NewUpload, create_upload, replace_multipart
from worker.process.runtime import make_runtime
from worker.upkeep import uploads
from worker.upkeep.uploads import LOOK_S, UploadUpkeep


def expired(database: Engine, storage: Storage) -> UUID:
    new = NewUpload(uuid7(), "default", "a.wav", 3, sha256=None, resumable=False)
    upload = create_upload(database, new, NO_LIMITS, keep_s=0.001)
    multipart = storage.start_upload(upload.key)
    multipart.send(1, b"abc")
    replace_multipart(database, upload, multipart.upload_id, keep_s=0.001)
    return upload.id


def test_what_expired_is_removed_and_what_is_unknown_is_looked_for_once_an_hour(
    settings: Settings, database: Engine, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "UNKNOWN_AFTER", -timedelta(minutes=1))
    runtime = make_runtime(settings, "beat@test")
    try:
        clock = [0.0]
        upkeep = UploadUpkeep(runtime, lambda: clock[0])
        upload_ids = [expired(database, storage) for _ in range(2)]
        first = storage.start_upload(upload_key(uuid7()))
        upkeep()
        with database.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM uploads")).scalar_one() == 0
        remove_all(database, storage)
        for upload_id in upload_ids:
            assert storage.begun_uploads(upload_key(upload_id)) == []
        assert first.parts() is None

        second = storage.start_upload(upload_key(uuid7()))
        upkeep()
        assert second.parts() == {}
        clock[0] += LOOK_S
        upkeep()
        assert second.parts() is None
    finally:
        runtime.close()
