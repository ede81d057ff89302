"""Chunks wait for the language of their job where it is to be detected."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim, column, step_ids
from harness.jobs.preparations import (
    DETECTING,
    HELD,
    plan_of,
    prepare_again,
    replace_options,
    speech,
    start_preparing,
    submit,
)
from harness.jobs.queues import MODEL_QUEUE
from harness.programs.workers import wait_until
from shared.infra.database import begin
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store import steps
from shared.store.steps import NewStep
from shared.store.steps.claims import fence
from shared.store.successors import release_held
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine
from worker.process.runtime import Runtime, make_runtime
from worker.steps import prepare as preparing


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    running = replace(make_runtime(settings, "test"), batcher=Batcher(OracleEngine()))
    yield running
    running.close()


def test_chunks_wait_until_the_language_is_detected(runtime: Runtime) -> None:
    job_id = submit(runtime, DETECTING, speech(0, 20, 40, 60))
    start_preparing(runtime, job_id)
    plan = plan_of(runtime.database, job_id)
    assert len(plan) > 1
    assert plan_of(runtime.database, job_id, HELD) == plan

    detecting = claim(runtime.database, job_id, "detect")
    chunks = [chunk for _, chunk in plan]
    assert all(chunk in chunks for chunk in detecting.input["chunks"])
    steps.complete_detect(runtime.database, detecting, language="de", probability=0.9, timings={})

    assert plan_of(runtime.database, job_id, HELD) == []
    assert claim(runtime.database, job_id, "transcribe").language == "de"


def test_detection_does_not_wait_for_the_end_of_a_long_file(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "DETECT_AFTER_SAMPLES", 40 * SAMPLE_RATE)
    job_id = submit(runtime, DETECTING, speech(*range(0, 330, 22)))

    start_preparing(runtime, job_id)

    (step,) = step_ids(runtime.database, job_id, "detect")
    heard = column(runtime.database, step, "input")["chunks"]  # type: ignore[index]
    assert len(heard) == 3
    # The first piece of stored audio is two minutes long.
    assert max(chunk["core_end"] for chunk in heard) <= 120 * SAMPLE_RATE
    assert len(plan_of(runtime.database, job_id, HELD)) > 8


def test_the_only_chunk_of_a_job_detects_its_language_itself(runtime: Runtime) -> None:
    job_id = submit(runtime, DETECTING, speech(0))

    start_preparing(runtime, job_id)

    assert len(plan_of(runtime.database, job_id)) == 1
    assert plan_of(runtime.database, job_id, HELD) == []
    assert step_ids(runtime.database, job_id, "detect") == []


@pytest.mark.parametrize(
    "options",
    [
        replace_options(DETECTING, language="en"),
        replace_options(DETECTING, multilingual=True),
        job_store.ORACLE,
    ],
)
def test_nothing_waits_where_no_language_is_to_be_detected(
    runtime: Runtime, options: ResolvedOptions
) -> None:
    job_id = submit(runtime, options, speech(0, 20, 40))

    start_preparing(runtime, job_id)

    assert plan_of(runtime.database, job_id) != []
    assert plan_of(runtime.database, job_id, HELD) == []
    assert step_ids(runtime.database, job_id, "detect") == []


@pytest.mark.parametrize("detected", [False, True])
def test_a_repeated_prepare_detects_once_and_holds_what_was_held(
    runtime: Runtime, detected: bool
) -> None:
    job_id = submit(runtime, DETECTING, speech(0, 20, 40))
    start_preparing(runtime, job_id)
    plan = plan_of(runtime.database, job_id)
    if detected:
        detecting = claim(runtime.database, job_id, "detect")
        steps.complete_detect(
            runtime.database, detecting, language=None, probability=None, timings={}
        )

    prepare_again(runtime, job_id)

    assert plan_of(runtime.database, job_id) == plan
    assert plan_of(runtime.database, job_id, HELD) == ([] if detected else plan)
    assert len(step_ids(runtime.database, job_id, "detect")) == 1


def test_a_chunk_added_while_the_language_becomes_known_is_not_stranded(
    database: Engine,
) -> None:
    job_id = add_job(database)
    planning = claim(database, job_id, "prepare")
    steps.add_chunks(database, planning, [NewStep(0, job_store.CHUNK)], max_attempts=3, hold=True)
    steps.add_detect(database, planning, [job_store.CHUNK], max_attempts=3)
    detecting = claim(database, job_id, "detect")

    with ThreadPoolExecutor(1) as pool:
        with begin(database) as completing:
            # What complete_detect does, stopped midway.
            fence(completing, detecting)
            adding = pool.submit(
                steps.add_chunks,
                database,
                planning,
                [NewStep(1, job_store.CHUNK)],
                max_attempts=3,
                hold=True,
            )
            wait_until(lambda: somebody_waits_for_a_lock(database))
            completing.execute(text("UPDATE steps SET state = 'done' WHERE kind = 'detect'"))
            release_held(completing, job_id, MODEL_QUEUE)
        adding.result(timeout=60)

    assert plan_of(database, job_id, HELD) == []


def somebody_waits_for_a_lock(database: Engine) -> bool:
    with begin(database) as connection:
        waits = text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return bool(connection.execute(waits).scalar_one())
