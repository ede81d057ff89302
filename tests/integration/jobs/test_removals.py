"""Objects that nothing needs any more: removed in the end, whatever happens in between."""

import logging
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job, add_stored_job, step_ids
from harness.jobs.removals import move_clock_on, pending, remove_all
from harness.jobs.step_runner import run_claimed
from harness.media.recipes import wav
from harness.servers.api_server import relayed, stored
from shared.infra.errors import StorageUnavailable
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.delete import delete_job
from shared.store.objects.keys import job_prefix, source_key
from shared.store.objects.removals import (
    LATE_WRITES_S,
    abandon_upload,
    begin_upload,
    confirm_removal,
    schedule_removal,
    take_due_removals,
)
from shared.store.objects.remover import PATIENCE_S, Remover, remove_due
from shared.store.retention import expire_audio
from shared.store.states import JobState
from worker.engines.oracle import encode
from worker.process.runtime import Runtime, make_runtime
from worker.steps.prepare import prepare


def schedule(database: Engine, prefix: str, *, late_writes: bool = False) -> None:
    with database.begin() as connection:
        schedule_removal(connection, prefix, late_writes=late_writes)


def due_in_s(database: Engine, prefix: str) -> float:
    with database.begin() as connection:
        found = connection.execute(
            text("SELECT extract(epoch FROM due_at - now()) FROM removals WHERE prefix = :prefix"),
            {"prefix": prefix},
        )
        return float(found.scalar_one())


@pytest.fixture
def prefix() -> str:
    return f"tests/{uuid4()}/"


def keys(storage: Storage, prefix: str) -> set[str]:
    return {key for key in stored(storage) if prefix in key}


def test_what_is_due_goes_and_is_forgotten(database: Engine, storage: Storage, prefix: str) -> None:
    storage.put(f"{prefix}a", b"x")
    storage.start_upload(f"{prefix}b").send(1, bytes(PART_BYTES))
    assert len(keys(storage, prefix)) == 2
    schedule(database, prefix)
    assert remove_due(database, storage) == 1
    assert not keys(storage, prefix)
    assert pending(database) == []


def test_what_a_worker_may_write_late_is_looked_for_again(
    database: Engine, storage: Storage, prefix: str
) -> None:
    schedule(database, prefix, late_writes=True)
    assert remove_due(database, storage) == 1
    storage.put(f"{prefix}late", b"x")
    assert remove_due(database, storage) == 0
    assert LATE_WRITES_S - 60 < due_in_s(database, prefix) <= LATE_WRITES_S
    move_clock_on(database)
    assert remove_due(database, storage) == 1
    assert not keys(storage, prefix)
    assert pending(database) == []


def test_a_store_that_is_away_is_told_in_one_line_and_asked_again(
    settings: Settings,
    database: Engine,
    storage: Storage,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in "abc":
        storage.put(f"{prefix}{name}/1", b"x")
        schedule(database, f"{prefix}{name}/")
    with relayed(settings, "storage_url") as (cut_off, relay):
        relay.cut()
        away = Storage(cut_off.storage_url.get_secret_value())
        with caplog.at_level(logging.WARNING):
            assert remove_due(database, away) == 0
            assert remove_due(database, away) == 0, "not at once, and not for nothing"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "cannot be reached" in line
    assert "3 removals" in line
    assert len(pending(database)) == 3
    assert remove_due(database, storage) == 0, "its patience is not over"
    assert remove_due(database, storage, patience_s=0) == 3
    assert not keys(storage, prefix)


def test_an_object_that_cannot_be_removed_holds_up_no_other(
    database: Engine, storage: Storage, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete_prefix = storage.delete_prefix

    def refuse(wanted: str) -> None:
        if wanted.endswith("bad/"):
            raise StorageUnavailable("the object store kept 1 objects (AccessDenied)")
        delete_prefix(wanted)

    monkeypatch.setattr(storage, "delete_prefix", refuse)
    schedule(database, f"{prefix}bad/")
    for name in "abc":
        schedule(database, f"{prefix}{name}/")
    for _ in range(4):
        remove_due(database, storage, limit=1, patience_s=0)
    assert pending(database) == [f"{prefix}bad/"]


def test_what_is_being_removed_is_nobody_elses_until_patience_is_over(
    database: Engine, prefix: str
) -> None:
    schedule(database, prefix)
    assert len(take_due_removals(database, limit=9, patience_s=PATIENCE_S)) == 1
    assert take_due_removals(database, limit=9, patience_s=PATIENCE_S) == []
    assert len(take_due_removals(database, limit=9, patience_s=0)) == 1


def test_what_is_scheduled_anew_while_it_is_removed_is_removed_again(
    database: Engine, prefix: str
) -> None:
    schedule(database, prefix)
    (taken,) = take_due_removals(database, limit=1, patience_s=PATIENCE_S)
    schedule(database, prefix)
    confirm_removal(database, taken)
    assert pending(database) == [prefix]
    assert len(take_due_removals(database, limit=1, patience_s=PATIENCE_S)) == 1


def test_a_store_that_keeps_an_object_has_not_confirmed(
    storage: Storage, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(f"{prefix}a", b"x")
    kept = {"Errors": [{"Key": f"{prefix}a", "Code": "AccessDenied"}]}
    monkeypatch.setattr(storage._client, "delete_objects", lambda **_: kept)
    with pytest.raises(StorageUnavailable, match="AccessDenied"):
        storage.delete_prefix(prefix)


def test_a_remover_that_is_rung_removes_all_that_is_due(
    database: Engine, storage: Storage, prefix: str
) -> None:
    for number in range(250):
        schedule(database, f"{prefix}{number}/")
    remover = Remover(database, storage)
    remover.ring()
    remover.close(timeout_s=60)
    assert pending(database) == []


def test_an_upload_is_due_to_go_until_its_job_is_committed(database: Engine) -> None:
    key = source_key(uuid4())
    begin_upload(database, key, allowance_s=3600)
    assert 3000 < due_in_s(database, key) <= 3600
    abandon_upload(database, key)
    assert due_in_s(database, key) <= 0
    job_id = add_job(database)
    assert pending(database) == [key]
    abandon_upload(database, source_key(job_id))  # too late: it has its job
    assert pending(database) == [key]


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = make_runtime(settings, "test")
    yield running
    running.close()


def delete(database: Engine, job_id: UUID) -> None:
    delete_job(database, "default", job_id, max_attempts=2)


def cancel(database: Engine, job_id: UUID) -> None:
    cancel_job(database, "default", job_id, max_attempts=2)


def cancel_and_keep_nothing(database: Engine, job_id: UUID) -> None:
    cancel(database, job_id)
    expire_audio(database, JobState.CANCELED, keep_s=0, limit=9)


@pytest.mark.parametrize("end", [delete, cancel_and_keep_nothing, cancel])
def test_a_worker_cut_off_in_the_middle_leaves_no_audio_behind_that_is_not_kept(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, end: Callable[[Engine, UUID], None]
) -> None:
    """It stores a piece when the objects have been removed already, as one that was frozen does."""
    samples, _ = encode(range(300), gap_s=0.3)
    file = wav((samples * 32767).astype(np.int16))
    job_id = add_stored_job(runtime.database, runtime.storage, file)
    put = runtime.storage.put

    def put_late(key: str, data: bytes) -> None:
        end(runtime.database, job_id)
        remove_all(runtime.database, runtime.storage)
        put(key, data)

    monkeypatch.setattr(runtime.storage, "put", put_late)
    (step_id,) = step_ids(runtime.database, job_id, "prepare")
    run_claimed(runtime, step_id, prepare)

    late = keys(runtime.storage, job_prefix(job_id))
    assert any("/pcm/" in key for key in late)
    remove_all(runtime.database, runtime.storage)
    if end == cancel:
        assert keys(runtime.storage, job_prefix(job_id)) == {source_key(job_id), *late}
        expire_audio(runtime.database, JobState.CANCELED, keep_s=0, limit=9)
        remove_all(runtime.database, runtime.storage)
    assert not keys(runtime.storage, job_prefix(job_id))
