"""Listening copies: made after a job's success, by whoever has nothing else to do."""

import io
from collections.abc import Iterator
from dataclasses import replace

import av
import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text

from harness.jobs.job_store import ORACLE, add_job, step_ids
from harness.jobs.preparations import objects, run_all, speech, submit
from harness.jobs.step_runner import run_claimed
from harness.servers.api_server import api, assert_problem
from shared.infra.errors import UnreadableMedia
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store import steps
from shared.store.jobs.delete import delete_job
from shared.store.jobs.read import get_job
from shared.store.objects.keys import listening_key
from shared.store.objects.remover import remove_due
from shared.store.queues import LISTEN_QUEUE
from shared.store.retention import expire_audio, expire_listening, expire_transcripts
from shared.store.states import JobState
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine
from worker.process.runtime import Runtime, make_runtime
from worker.steps.listen import listen


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    kept = settings.model_copy(update={"keep_listening_s": 3600.0})
    runtime = replace(make_runtime(kept, "test"), batcher=Batcher(OracleEngine()))
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def test_the_copy_is_what_is_heard_once_the_file_is_gone(
    runtime: Runtime, client: httpx.Client, database: Engine, storage: Storage
) -> None:
    job_id = submit(runtime, ORACLE, speech(1.0, 20.0))
    run_all(runtime, job_id)
    whole = client.get(f"/jobs/{job_id}/audio").content
    (step_id,) = step_ids(database, job_id, "listen")
    run_claimed(runtime, step_id, listen)
    assert client.get(f"/jobs/{job_id}/audio").content == whole

    expire_audio(database, JobState.SUCCEEDED, keep_s=0, limit=9)
    remove_due(database, storage)
    answer = client.get(f"/jobs/{job_id}/audio")

    assert answer.headers["content-type"] == "audio/ogg"
    with av.open(io.BytesIO(answer.content)) as container:
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    duration_s = get_job(database, "default", job_id).duration_s
    assert duration_s is not None
    assert abs(len(heard) / 48_000 - duration_s) < 0.1
    assert np.abs(heard[: 48_000 // 2]).mean() < np.abs(heard[2 * 48_000 : 3 * 48_000]).mean()
    assert len(answer.content) < 32_000 / 8 * duration_s * 1.5
    part = client.get(f"/jobs/{job_id}/audio", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"OggS")


def test_no_copy_is_made_unless_it_is_wanted(settings: Settings, database: Engine) -> None:
    runtime = replace(make_runtime(settings, "test"), batcher=Batcher(OracleEngine()))
    job_id = submit(runtime, ORACLE, speech(1.0))
    run_all(runtime, job_id)
    runtime.close()
    assert step_ids(database, job_id, "listen") == []


def test_a_copy_waits_while_there_is_other_work(runtime: Runtime, database: Engine) -> None:
    job_id = submit(runtime, ORACLE, speech(1.0))
    run_all(runtime, job_id)
    other = add_job(database)

    def claims() -> list[steps.Claim]:
        return list(steps.claim_next(database, LISTEN_QUEUE, owner="test", lease_s=30).claims)

    assert claims() == []
    steps.claim_next(database, "cpu", owner="test", lease_s=30)
    assert step_ids(database, other, "prepare")
    assert [claim.job_id for claim in claims()] == [job_id]


def test_a_copy_that_cannot_be_made_changes_nothing_else(
    runtime: Runtime, database: Engine, client: httpx.Client
) -> None:
    job_id = submit(runtime, ORACLE, speech(1.0))
    run_all(runtime, job_id)
    (claim,) = steps.claim_next(database, LISTEN_QUEUE, owner="test", lease_s=30).claims

    steps.fail(database, claim, UnreadableMedia("it cannot be decoded"))

    assert get_job(database, "default", job_id).state == JobState.SUCCEEDED
    expire_audio(database, JobState.SUCCEEDED, keep_s=0, limit=9)
    assert_problem(client.get(f"/jobs/{job_id}/audio"), 410, "audio_deleted")


def test_audio_that_is_gone_before_the_copy_is_made_is_no_error(
    runtime: Runtime, database: Engine
) -> None:
    job_id = submit(runtime, ORACLE, speech(1.0))
    run_all(runtime, job_id)
    expire_audio(database, JobState.SUCCEEDED, keep_s=0, limit=9)
    (step_id,) = step_ids(database, job_id, "listen")
    run_claimed(runtime, step_id, listen)
    with database.begin() as connection:
        state = connection.execute(
            text("SELECT state FROM steps WHERE id = :id"), {"id": step_id}
        ).scalar_one()
    assert state == "done"


@pytest.mark.parametrize("how", ["its time", "the transcript's", "the job's end"])
def test_the_copy_goes_with_its_time_its_transcript_and_its_job(
    runtime: Runtime, database: Engine, storage: Storage, how: str
) -> None:
    job_id = submit(runtime, ORACLE, speech(1.0))
    run_all(runtime, job_id)
    (step_id,) = step_ids(database, job_id, "listen")
    run_claimed(runtime, step_id, listen)
    key = listening_key(job_id)
    remove_due(database, storage)
    assert key in objects(runtime, job_id)

    if how == "its time":
        expire_listening(database, keep_s=0, limit=9)
    elif how == "the transcript's":
        expire_transcripts(database, keep_s=0, limit=9)
    else:
        delete_job(database, "default", job_id, max_attempts=1)
    remove_due(database, storage)

    assert key not in objects(runtime, job_id)


def test_a_copy_is_not_kept_once_the_transcript_is_gone(
    runtime: Runtime, database: Engine, storage: Storage
) -> None:
    job_id = submit(runtime, ORACLE, speech(1.0))
    run_all(runtime, job_id)
    expire_transcripts(database, keep_s=0, limit=9)
    (step_id,) = step_ids(database, job_id, "listen")
    run_claimed(runtime, step_id, listen)
    remove_due(database, storage)
    assert listening_key(job_id) not in objects(runtime, job_id)
