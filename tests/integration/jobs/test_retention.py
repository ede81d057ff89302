"""What is past its time goes, and nothing else; on real Postgres, with jobs made to look older."""

from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_job, claim, column, prepare, step_ids, transcribe
from harness.jobs.removals import pending
from harness.jobs.transcripts import get_transcript
from harness.jobs.webhook_store import add_hook
from shared.infra.errors import JobNotFound, NoWorker, TranscriptDeleted, UnreadableMedia
from shared.store import retention, steps
from shared.store.events import Page, Place, read_pages
from shared.store.jobs.accuracy import get_text, measure_pending
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import JobView, get_job
from shared.store.jobs.retry import retry_job
from shared.store.objects.keys import job_prefix
from shared.store.retention import FOR_EVER_S, expire_audio
from shared.store.states import JobState
from shared.store.transcripts import open_transcript

HOUR_S = 3600.0
ENDS = {"succeeded", "failed", "canceled"}


def view(database: Engine, job_id: UUID) -> JobView:
    return get_job(database, "default", job_id)


def ended(database: Engine, state: str, *, hours_ago: float = 0) -> UUID:
    job_id = add_job(database)
    if state == "succeeded":
        compute(database, job_id)
    elif state == "failed":
        steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("no"))
    else:
        cancel_job(database, "default", job_id, max_attempts=2)
    make_older(database, job_id, hours_ago)
    return job_id


def make_older(database: Engine, job_id: UUID, hours: float) -> None:
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE jobs SET finished_at = finished_at - make_interval(secs => :age_s)
                WHERE id = :id
            """),
            {"id": job_id, "age_s": hours * HOUR_S},
        )


def expire_jobs(database: Engine, keep_s: float, limit: int = 100) -> int:
    return retention.expire_jobs(database, keep_s=keep_s, max_attempts=2, limit=limit)


def expire_transcripts(database: Engine, keep_s: float = HOUR_S, limit: int = 100) -> int:
    return retention.expire_transcripts(database, keep_s=keep_s, limit=limit)


def exists(database: Engine, job_id: UUID) -> bool:
    try:
        view(database, job_id)
    except JobNotFound:
        return False
    return True


# --- audio ---


@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled"])
def test_audio_goes_when_its_time_is_up_and_not_before(database: Engine, state: str) -> None:
    old, young = ended(database, state, hours_ago=2), ended(database, state)
    others = [ended(database, other, hours_ago=2) for other in ENDS - {state}]
    running = add_job(database)
    assert expire_audio(database, JobState(state), keep_s=HOUR_S, limit=100) == 1
    assert view(database, old).audio_deleted_at is not None
    assert job_prefix(old) in pending(database)
    for job_id in (young, running, *others):
        assert view(database, job_id).audio_deleted_at is None
        assert job_prefix(job_id) not in pending(database)
    assert expire_audio(database, JobState(state), keep_s=HOUR_S, limit=100) == 0


def test_audio_that_is_why_its_job_failed_is_kept_for_an_hour(database: Engine) -> None:
    refused, young = ended(database, "failed", hours_ago=2), ended(database, "failed")
    unserved = add_job(database)
    steps.fail(database, claim(database, unserved, "prepare"), NoWorker("nobody is there"))
    make_older(database, unserved, 2)
    assert retention.expire_refused_audio(database, keep_s=7 * 24 * HOUR_S, limit=100) == 1
    gone = [
        view(database, job_id).audio_deleted_at is not None for job_id in (refused, young, unserved)
    ]
    assert gone == [True, False, False]
    assert retention.expire_refused_audio(database, keep_s=0, limit=100) == 1


def test_nothing_of_a_canceled_jobs_audio_goes_before_its_time(database: Engine) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    cancel_job(database, "default", job_id, max_attempts=2)
    assert pending(database) == []
    make_older(database, job_id, 2)
    assert expire_audio(database, JobState.CANCELED, keep_s=HOUR_S, limit=100) == 1
    assert pending(database) == [job_prefix(job_id)]


def test_audio_that_is_kept_for_no_time_goes_right_after_the_end(database: Engine) -> None:
    ended(database, "succeeded")
    assert expire_audio(database, JobState.SUCCEEDED, keep_s=0, limit=100) == 1


def test_a_batch_is_bounded_and_passes_over_what_is_locked(database: Engine) -> None:
    jobs = [ended(database, "failed", hours_ago=9 - number) for number in range(4)]
    with database.begin() as connection:
        connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": jobs[0]})
        assert expire_audio(database, JobState.FAILED, keep_s=0, limit=2) == 2
        gone = [view(database, job_id).audio_deleted_at is not None for job_id in jobs]
        assert gone == [False, True, True, False]
        assert expire_jobs(database, HOUR_S, limit=2) == 1
        assert [exists(database, job_id) for job_id in jobs] == [True, False, True, True]


@pytest.mark.parametrize("keep_s", [FOR_EVER_S, 1e300, float("inf")])
def test_what_is_kept_for_ever_stays(database: Engine, keep_s: float) -> None:
    for state in ENDS:
        ended(database, state, hours_ago=200_000)
    assert expire_audio(database, JobState.FAILED, keep_s=keep_s, limit=100) == 0
    assert expire_transcripts(database, keep_s) == 0
    assert expire_jobs(database, keep_s) == 0


def test_what_is_kept_for_long_is_no_error(database: Engine) -> None:
    ended(database, "succeeded", hours_ago=1)
    assert expire_jobs(database, FOR_EVER_S * 0.999) == 0


# --- transcripts ---


def test_of_an_expired_transcript_no_word_is_left_but_the_job_is(database: Engine) -> None:
    job_id = submit(database, reference="hello there", live_text="hello")
    compute(database, job_id)
    make_older(database, job_id, 2)
    assert view(database, job_id).live_text == "hello"
    assert expire_transcripts(database) == 1
    assert expire_transcripts(database) == 0
    job = view(database, job_id)
    assert (job.state, job.cached) == (JobState.SUCCEEDED, False)
    assert job.transcript_deleted_at is not None
    assert job.accuracy is not None, "what was measured tells nothing of what was said"
    for read in (get_transcript, open_transcript, get_text):
        with pytest.raises(TranscriptDeleted):
            read(database, "default", job_id)
    (chunk,) = step_ids(database, job_id, "transcribe")
    assert column(database, chunk, "output") is None
    (page,) = read_pages(database, [Place("default", job_id, 0)]).values()
    assert isinstance(page, Page)
    states = [event.state for event in page.events]
    assert states == ["queued", "running", "succeeded"]
    with database.begin() as connection:
        for table in ("transcripts", "transcript_segments"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
        found = connection.execute(text("SELECT reference, live_text FROM jobs"))
        assert found.one() == (None, None)
    assert measure_pending(database) == 0


def test_a_transcript_removed_while_it_is_read_does_not_look_like_a_short_one(
    database: Engine,
) -> None:
    job_id = submit(database)
    compute(database, job_id, *(f"sentence {number}" for number in range(150)))
    segments = iter(open_transcript(database, "default", job_id).segments)
    assert next(segments).text == "sentence 0"
    expire_transcripts(database, 0)
    with pytest.raises(TranscriptDeleted):
        list(segments)


def test_an_expired_transcript_is_not_offered_and_copies_serve_on_until_their_own_time(
    database: Engine,
) -> None:
    original, copy = submit(database), submit(database)
    compute(database, original)
    make_older(database, original, 2)
    assert expire_transcripts(database) == 1
    assert get_transcript(database, "default", copy).text == "hello there"
    again = submit(database)
    assert view(database, again).cached
    for job_id in (copy, again):
        make_older(database, job_id, 2)
    assert expire_transcripts(database) == 2
    anew = submit(database)
    assert step_ids(database, anew, "prepare")


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_finished_chunks_of_a_job_to_be_retried_stay_as_long_as_it_does(
    database: Engine, state: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, chunks=2)
    transcribe(database, claim(database, job_id, "transcribe", 0))
    if state == "failed":
        steps.fail(database, claim(database, job_id, "transcribe", 1), UnreadableMedia("no"))
    else:
        cancel_job(database, "default", job_id, max_attempts=2)
    make_older(database, job_id, 2)
    expire_audio(database, JobState(state), keep_s=0, limit=100)
    assert expire_transcripts(database, 0) == 0
    assert column(database, step_ids(database, job_id, "transcribe")[0], "output") is not None


# --- jobs ---


def test_jobs_go_when_their_time_is_up_in_whatever_way_they_ended(database: Engine) -> None:
    old = [ended(database, state, hours_ago=2) for state in ENDS]
    young = [ended(database, state) for state in ENDS]
    active = add_job(database)
    assert expire_jobs(database, HOUR_S) == 3
    assert not any(exists(database, job_id) for job_id in old)
    assert all(exists(database, job_id) for job_id in (*young, active))
    assert {job_prefix(job_id) for job_id in old} <= set(pending(database))


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_a_job_that_is_running_again_is_not_past_its_time(database: Engine, state: str) -> None:
    job_id = ended(database, state, hours_ago=2)
    retry_job(database, "default", job_id, max_attempts=2)
    assert expire_jobs(database, HOUR_S) == 0
    assert expire_audio(database, JobState(state), keep_s=0, limit=100) == 0


def test_a_job_with_a_delivery_to_be_made_is_kept_until_that_ends(database: Engine) -> None:
    add_hook(database, "https://receiver.example/hook")
    ended(database, "succeeded", hours_ago=2)
    assert expire_jobs(database, HOUR_S) == 0
    with database.begin() as connection:
        connection.execute(text("UPDATE webhook_deliveries SET state = 'delivered'"))
    assert expire_jobs(database, HOUR_S) == 1
    with database.begin() as connection:
        left = connection.execute(text("SELECT count(*) FROM webhook_deliveries"))
        assert left.scalar_one() == 0


def test_a_job_whose_equals_are_being_chosen_from_is_left_to_the_next_batch(
    database: Engine,
) -> None:
    job_id = submit(database)
    compute(database, job_id)
    make_older(database, job_id, 2)
    with database.begin() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('default' || :f, 0))"),
            {"f": "f" * 64},
        )
        assert expire_jobs(database, HOUR_S) == 0
        assert expire_transcripts(database) == 0
    assert expire_transcripts(database) == 1
    assert expire_jobs(database, HOUR_S) == 1
