"""Small files of hours of audio: what they store, how long they hold the queue of small files."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import add_job, add_stored_job, claim, column, step_ids
from harness.media.bombs import silent_flac, silent_matroska, stepped_flac
from harness.servers.api_server import stored
from shared.infra.errors import AudioTooLong, LargeFile
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.models.options import ResolvedOptions
from shared.speech.names import VadName
from shared.store import steps
from shared.store.queues import CPU_QUEUE, LARGE_BYTES, LARGE_QUEUE
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime, make_runtime
from worker.steps import prepare as step
from worker.steps.prepare import prepare
from worker.steps.run import one_by_one


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    made = make_runtime(settings, "test")
    yield made
    made.close()


def submit(runtime: Runtime, file: bytes, vad: VadName) -> Lease:
    options = ResolvedOptions(model="oracle", vad=vad)
    job_id = add_stored_job(runtime.database, runtime.storage, file, options=options)
    return Lease(claim(runtime.database, job_id, "prepare"))


def stored_bytes(storage: Storage, lease: Lease) -> int:
    """Bytes of a job's decoded audio, in the object store and in its steps."""
    keys = [key for key in stored(storage) if str(lease.claim.job_id) in key and "/pcm/" in key]
    return sum(len(storage.read(key, 0, 1 << 24)) for key in keys)


def prepared_s(runtime: Runtime, lease: Lease) -> float:
    with runtime.database.begin() as connection:
        return float(
            connection.execute(
                text("SELECT duration_s FROM jobs WHERE id = :id"), {"id": lease.claim.job_id}
            ).scalar_one()
        )


@pytest.mark.parametrize("vad", ["silero", "off"])
def test_gaps_between_packets_store_next_to_nothing(runtime: Runtime, vad: VadName) -> None:
    lease = submit(runtime, silent_matroska(1.0), vad)
    prepare(runtime, lease)
    assert prepared_s(runtime, lease) > 3_500  # 112 MB
    # Without a detector, half a minute of silence is heard after each packet.
    assert stored_bytes(runtime.storage, lease) <= (0 if vad == "silero" else 2_000_000)


def test_hours_of_silence_store_nothing(runtime: Runtime) -> None:
    lease = submit(runtime, silent_flac(0.5), "silero")
    prepare(runtime, lease)
    assert prepared_s(runtime, lease) == pytest.approx(1800, abs=5)  # 58 MB
    assert stored_bytes(runtime.storage, lease) == 0


def test_what_a_small_file_stores_is_bounded_by_its_size(runtime: Runtime) -> None:
    file = stepped_flac(0.3)  # 35 MB
    lease = submit(runtime, file, "off")
    with pytest.raises(AudioTooLong, match="size"):
        prepare(runtime, lease)
    most = step.STORED_ANYWAY_BYTES + step.STORED_PER_SOURCE_BYTE * len(file)
    assert 0 < stored_bytes(runtime.storage, lease) <= most


def test_long_audio_of_a_small_file_is_prepared_as_a_large_file(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "LARGE_SAMPLES", 60 * 16_000)
    lease = submit(runtime, silent_flac(0.1), "silero")
    assert lease.claim.queue == CPU_QUEUE
    prepare(runtime, lease)
    assert column(runtime.database, lease.claim.step_id, "queue") == LARGE_QUEUE
    assert column(runtime.database, lease.claim.step_id, "state") == "done"


def test_it_waits_while_enough_large_files_are_prepared(
    runtime: Runtime, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "LARGE_SAMPLES", 60 * 16_000)
    large = claim(database, add_job(database, source_bytes=LARGE_BYTES), "prepare")
    assert large.queue == LARGE_QUEUE
    lease = submit(runtime, silent_flac(0.1), "silero")
    with pytest.raises(LargeFile):
        prepare(runtime, Lease(lease.claim))

    one_by_one({lease.claim.kind: prepare})(runtime, [lease])

    (step_id,) = step_ids(database, lease.claim.job_id, "prepare")
    found = [column(database, step_id, name) for name in ("queue", "state", "attempt")]
    assert found == [LARGE_QUEUE, "queued", 0]
    steps.fail(database, large, AudioTooLong("it is over"))
    (again,) = steps.claim_next(database, LARGE_QUEUE, owner="test", lease_s=30).claims
    assert again.step_id == step_id
    prepare(runtime, Lease(again))
    assert column(database, step_id, "state") == "done"
