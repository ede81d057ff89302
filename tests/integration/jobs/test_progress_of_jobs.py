"""How far a job is: percent, speed and time left, from its beginning through a retry to its end."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim
from harness.jobs.spoken import CHUNK_S, complete_plan, hear, plan, planned
from shared.infra.errors import ModelError
from shared.store import steps
from shared.store.jobs.read import JobView, get_job
from shared.store.jobs.retry import retry_job


def view(database: Engine, job_id: UUID) -> JobView:
    return get_job(database, "default", job_id)


def backdate(database: Engine, job_id: UUID, by_s: float) -> None:
    """Let the first chunk have been claimed so long ago."""
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE jobs SET transcribing_since = clock_timestamp() - make_interval(secs => :s)
                WHERE id = :id AND transcribing_since IS NOT NULL
            """),
            {"id": job_id, "s": by_s},
        )


def test_percent_is_the_share_of_the_audio_that_is_transcribed(database: Engine) -> None:
    job_id = add_job(database)
    said = [view(database, job_id).percent]
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, [0, 1])
    hear(database, job_id, 0)
    # Half of what is planned is done, but nobody knows yet how much more there is.
    said.append(view(database, job_id).percent)
    assert said == [None, None]

    plan(database, preparing, [1, 2, 3])
    complete_plan(database, preparing, 4)
    for idx in (2, 1, 3):
        said.append(view(database, job_id).percent)
        hear(database, job_id, idx)
    said.append(view(database, job_id).percent)
    job_store.finish(database, claim(database, job_id, "finish"))
    said.append(view(database, job_id).percent)

    assert said[2:] == [25.0, 50.0, 75.0, 99.0, 100.0]


def test_while_the_audio_is_being_decoded_the_whole_is_estimated(database: Engine) -> None:
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, [0, 1], share=0.25)
    assert view(database, job_id).percent == 0.0
    hear(database, job_id, 0)
    backdate(database, job_id, 500)

    # Ten seconds of eighty, in five hundred.
    found = view(database, job_id)
    assert found.percent == 12.5
    assert found.eta_s == pytest.approx(3500, rel=0.1)


def test_percent_does_not_fall_when_there_is_more_audio_than_was_thought(database: Engine) -> None:
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, [0], share=0.5)
    hear(database, job_id, 0)
    said = [view(database, job_id).percent]

    plan(database, preparing, [1, 2, 3], share=0.8)
    said.append(view(database, job_id).percent)
    complete_plan(database, preparing, 4)
    said.append(view(database, job_id).percent)
    for idx in (1, 2, 3):
        hear(database, job_id, idx)
        said.append(view(database, job_id).percent)

    assert said == [50.0, 50.0, 50.0, 50.0, 75.0, 99.0]


def test_a_chunk_planned_again_is_counted_once(database: Engine) -> None:
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")

    plan(database, preparing, [0, 1])
    plan(database, preparing, [0, 1, 2])

    assert view(database, job_id).audio_planned_s == 3 * CHUNK_S


def test_a_job_without_speech_is_not_done_before_its_transcript_is(database: Engine) -> None:
    job_id = add_job(database)
    planned(database, job_id, 0)
    assert view(database, job_id).percent == 99.0
    job_store.finish(database, claim(database, job_id, "finish"))
    assert view(database, job_id).percent == 100.0


def test_the_time_left_follows_from_the_speed_since_the_first_chunk_was_claimed(
    database: Engine,
) -> None:
    job_id = add_job(database)
    planned(database, job_id, 4)
    assert (view(database, job_id).rtfx, view(database, job_id).eta_s) == (None, None)
    transcribing = claim(database, job_id, "transcribe", 0)
    assert (view(database, job_id).rtfx, view(database, job_id).eta_s) == (None, None)
    steps.release(database, transcribing)

    hear(database, job_id, 0)
    backdate(database, job_id, 500)

    # Ten seconds of audio in five hundred, and thirty to go.
    found = view(database, job_id)
    assert found.rtfx == pytest.approx(0.02, rel=0.1)
    assert found.eta_s == pytest.approx(1500, rel=0.1)


def test_there_is_no_time_left_to_tell_where_nobody_knows_how_much_there_is(
    database: Engine,
) -> None:
    job_id = add_job(database)
    plan(database, claim(database, job_id, "prepare"), [0, 1])
    hear(database, job_id, 0)
    found = view(database, job_id)
    assert found.rtfx is not None
    assert found.eta_s is None


def test_what_earlier_runs_did_counts_as_done_but_not_as_speed(database: Engine) -> None:
    job_id = add_job(database)
    planned(database, job_id, 4)
    hear(database, job_id, 0)
    hear(database, job_id, 1)
    backdate(database, job_id, 3600)
    steps.fail(database, claim(database, job_id, "transcribe", 2), ModelError("broken"))
    failed = view(database, job_id)
    assert (failed.percent, failed.rtfx, failed.eta_s) == (50.0, None, None)

    retry_job(database, "default", job_id, max_attempts=3)
    retried = view(database, job_id)
    assert (retried.percent, retried.rtfx, retried.eta_s) == (50.0, None, None)
    hear(database, job_id, 2)
    backdate(database, job_id, 500)

    # Ten seconds in five hundred, as if the first run had never been.
    found = view(database, job_id)
    assert found.percent == 75.0
    assert found.rtfx == pytest.approx(0.02, rel=0.1)
    assert found.eta_s == pytest.approx(500, rel=0.1)
