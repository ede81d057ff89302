"""Jobs survive what happens to their workers and messages; the oracle knows their words."""

import io
import signal
import wave
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.database.changes import read_changes, recorded
from harness.jobs.job_store import add_stored_job, end_leases
from harness.jobs.transcripts import get_transcript
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from shared.infra.database import begin
from shared.infra.errors import DatabaseUnavailable
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.queue.broker import count_messages, make_broker, send_wakeups
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store.jobs.read import get_job
from shared.store.queues import CPU_QUEUE, LARGE_QUEUE, model_queue
from shared.store.states import JobState
from worker.engines.oracle import encode

WORDS = range(1000, 1600)
"""About five minutes of them: a dozen chunks."""

SLOW = {"FAULTY_PACE_S": "5"}
"""Of a worker that is to be caught with a step, though the test may stand still."""

QUEUES = (CPU_QUEUE, LARGE_QUEUE, model_queue("oracle"))


@pytest.fixture(scope="module")
def source() -> bytes:
    samples, _ = encode(WORDS, gap_s=0.3)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


@pytest.fixture
def workers(settings: Settings, database: Engine, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on an empty broker; what it does is recorded.

    No lease of a worker that merely stands still runs out: tests end those of one that is gone.
    """
    impatient = settings.model_copy(update={"lease_s": 20.0, "heartbeat_s": 0.5, "sweep_s": 0.5})
    flush(settings)
    with recorded(database), fleet(impatient, tmp_path) as started:
        yield started


def flush(settings: Settings) -> None:
    with make_broker(settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()


def n_sent(settings: Settings) -> int:
    """How many wake-ups wait in all queues."""
    broker = make_broker(settings)
    return sum(count_messages(broker, queue) for queue in QUEUES)


def start_all(workers: Fleet) -> None:
    workers.start("beat")
    workers.start("cpu", "--concurrency", "1")
    workers.start("model", "--model", "oracle")


def assert_succeeds(database: Engine, job_id: UUID, *, within_s: float = 60.0) -> None:
    """See that the job succeeds once, with every word once and in order, and no step done twice."""
    wait_until(
        lambda: get_job(database, "default", job_id).state not in ("queued", "running"),
        within_s=within_s,
    )
    job = get_job(database, "default", job_id)
    assert (job.state, job.error_detail) == (JobState.SUCCEEDED, None)
    transcript = get_transcript(database, "default", job_id)
    assert transcript.text.split() == [f"w{number:05d}" for number in WORDS]
    history = [change for change in read_changes(database) if change.job_id == job_id]
    done = [change.step_id for change in history if change.state == "done"]
    assert len(done) == len(set(done))
    assert [change.state for change in history if change.step_id is None] == [
        *("queued", "running", "succeeded")
    ]


def freeze_with_a_step(worker: Worker, database: Engine, kind: str) -> list[int]:
    """Stop the worker (SIGSTOP) at a moment when it holds steps; return their ids."""

    def held() -> list[int]:
        with database.begin() as connection:
            return list(
                connection.execute(
                    text("SELECT id FROM steps WHERE kind = :kind AND state = 'running'"),
                    {"kind": kind},
                ).scalars()
            )

    def caught() -> list[int]:
        if not held():
            return []
        worker.signal(signal.SIGSTOP)
        if not (steps := held()):
            worker.signal(signal.SIGCONT)  # it completed them while we looked
        return steps

    return wait_until(caught)


def attempts(database: Engine, step_ids: list[int]) -> list[int]:
    with database.begin() as connection:
        return list(
            connection.execute(
                text("SELECT attempt FROM steps WHERE id = ANY (:ids)"), {"ids": step_ids}
            ).scalars()
        )


def test_a_killed_model_workers_chunks_are_finished_by_another(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    workers.start("beat")
    workers.start("cpu", "--concurrency", "1")
    doomed = workers.start("model", "--model", "oracle", **SLOW)
    held = freeze_with_a_step(doomed, database, "transcribe")
    doomed.kill()
    end_leases(database, held)
    workers.start("model", "--model", "oracle")
    assert_succeeds(database, job_id)
    assert set(attempts(database, held)) == {2}


def test_a_killed_cpu_workers_prepare_is_finished_by_another(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    workers.start("beat")
    doomed = workers.start("cpu", "--concurrency", "1", **SLOW)
    held = freeze_with_a_step(doomed, database, "prepare")
    doomed.kill()
    end_leases(database, held)
    workers.start("cpu", "--concurrency", "1")
    workers.start("model", "--model", "oracle")
    assert_succeeds(database, job_id)
    assert attempts(database, held) == [2]


def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    workers.start("beat")
    workers.start("cpu", "--concurrency", "1")
    frozen = workers.start("model", "--model", "oracle", **SLOW)
    held = freeze_with_a_step(frozen, database, "transcribe")
    end_leases(database, held)
    workers.start("model", "--model", "oracle")
    assert_succeeds(database, job_id)
    frozen.signal(signal.SIGCONT)
    # Postgres ended the session of a worker that froze within a transaction.
    wait_until(
        lambda: (
            frozen.log.count("its result is dropped") + frozen.log.count("is left to the reaper")
            >= len(held)
        )
    )
    assert_succeeds(database, job_id)


def test_a_worker_frozen_within_a_transaction_does_not_freeze_its_job(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    with pytest.raises(DatabaseUnavailable), begin(database) as frozen:  # noqa: PT012
        frozen.execute(text("SELECT id FROM jobs WHERE id = :id FOR UPDATE"), {"id": job_id})
        start_all(workers)
        assert_succeeds(database, job_id)


def test_wake_ups_for_nothing_change_nothing(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    start_all(workers)
    broker = make_broker(workers.settings)

    def send_more() -> bool:
        for queue in QUEUES:
            send_wakeups(broker, queue, 3)
        return get_job(database, "default", job_id).state == JobState.SUCCEEDED

    wait_until(send_more)
    assert_succeeds(database, job_id)


def test_a_flushed_broker_loses_no_job(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    workers.start("beat")
    wait_until(lambda: n_sent(workers.settings) > 0)
    flush(workers.settings)
    workers.start("cpu", "--concurrency", "1")
    workers.start("model", "--model", "oracle")
    wait_until(lambda: get_job(database, "default", job_id).chunks_done > 0)
    flush(workers.settings)
    assert_succeeds(database, job_id)


def test_an_orderly_stop_leaves_nothing_to_the_reaper(
    database: Engine, storage: Storage, workers: Fleet, source: bytes
) -> None:
    job_id = add_stored_job(database, storage, source)
    workers.start("beat")
    workers.start("cpu", "--concurrency", "1")
    first = workers.start("model", "--model", "oracle")
    wait_until(lambda: get_job(database, "default", job_id).chunks_done > 0)
    assert first.stop() == 0
    with database.begin() as connection:
        running = connection.execute(
            text("SELECT count(*) FROM steps WHERE kind = 'transcribe' AND state = 'running'")
        ).scalar_one()
    assert running == 0
    workers.start("model", "--model", "oracle")
    assert_succeeds(database, job_id)
