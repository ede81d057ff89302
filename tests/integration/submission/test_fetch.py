"""The ``fetch`` step: a file at a URL becomes the job's source, or the job fails and says why."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from harness.jobs.ended import fail
from harness.jobs.job_store import (
    add_remote_job,
    claim,
    claim_step,
    column,
    finish,
    new_job,
    prepare,
    step_ids,
    transcribe,
)
from harness.jobs.step_runner import run_claimed
from harness.peers.file_server import File, FileServer, serving_files
from harness.servers.api_server import stored
from shared.infra.errors import LeaseLost
from shared.infra.outbound import Outbound
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.models.catalogue import load_catalogue
from shared.models.options import fingerprint
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.create import create_job
from shared.store.jobs.read import JobView, get_job
from shared.store.jobs.retry import retry_job
from shared.store.objects.keys import job_prefix
from shared.store.queues import FETCH_QUEUE
from shared.store.states import JobState
from worker.process.runtime import Runtime, make_runtime
from worker.steps import fetch as fetching
from worker.steps.fetch import fetch

MIB = 1024**2
AUDIO = b"RIFF, as good as any audio here"


@pytest.fixture(scope="module")
def shared_runtime(servers: Settings) -> Iterator[Runtime]:
    made = make_runtime(servers.model_copy(update={"retry_base_s": 0.0}), "test")
    yield replace(made, outbound=Outbound(allow_http=True, allow=["127.0.0.0/8"]))
    made.close()


@pytest.fixture
def runtime(shared_runtime: Runtime, database: Engine) -> Runtime:
    return shared_runtime


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with serving_files() as server:
        yield server


def run(runtime: Runtime, job_id: UUID, *, attempts: int = 1) -> JobView:
    """Make attempts at a job's fetch; return the job."""
    (step,) = step_ids(runtime.database, job_id, "fetch")
    for _ in range(attempts):
        run_claimed(runtime, step, fetch)
    return get_job(runtime.database, "default", job_id)


def within(runtime: Runtime, **changes: object) -> Runtime:
    return replace(runtime, settings=runtime.settings.model_copy(update=changes))


@pytest.mark.parametrize("n_bytes", [1, PART_BYTES, 2 * PART_BYTES + 17])
def test_a_fetched_file_is_stored_and_goes_on_as_an_upload(
    runtime: Runtime, files: FileServer, storage: Storage, n_bytes: int
) -> None:
    audio = os.urandom(n_bytes)
    job_id = add_remote_job(runtime.database, files.put("/a/talk%20one.mp3?token=hush", audio))
    job = run(runtime, job_id)
    assert (job.state, job.stage, job.source_name) == ("running", "preparing", "talk one.mp3")
    assert (job.source_bytes, job.sha256) == (n_bytes, hashlib.sha256(audio).hexdigest())
    assert (job.fetched_bytes, job.fetch_total_bytes) == (n_bytes, n_bytes)
    assert job.audio_url == f"{files.base}/a/talk%20one.mp3"
    claimed = claim(runtime.database, job_id, "prepare")
    assert storage.read(claimed.source_key, 0, n_bytes + 1) == audio
    assert claimed.source_bytes == n_bytes
    (step,) = step_ids(runtime.database, job_id, "fetch")
    assert column(runtime.database, step, "input") == {}


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="My Talk.mp3"', "My Talk.mp3"),
        ("attachment; filename=x.mp3; filename*=UTF-8''f%C3%BCr%20alle.mp3", "für alle.mp3"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("inline", "talk.mp3"),
    ],
)
def test_content_disposition_names_the_file(
    runtime: Runtime, files: FileServer, disposition: str, name: str
) -> None:
    url = files.put("/talk.mp3", AUDIO, headers={"Content-Disposition": disposition})
    assert run(runtime, add_remote_job(runtime.database, url)).source_name == name


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (File(status=404), "file_not_at_url", "404"),
        (File(status=410), "file_not_at_url", "410"),
        (File(status=401), "url_access_denied", "401"),
        (File(status=403), "url_access_denied", "403"),
        (File(status=418), "url_refused", "418"),
        (File(b"<html>", headers={"Content-Type": "text/html; charset=u"}), "web_page_at_url", ""),
        (File(AUDIO, headers={"Content-Encoding": "gzip"}), "url_refused", "packs"),
        (File(b""), "empty_file", "empty"),
        (File(AUDIO, headers={"Content-Length": str(3 * 1024**3)}), "upload_too_large", "2 GiB"),
        (File(status=302, headers={"Location": "/it"}), "too_many_redirects", "8 times"),
        (File(status=302, headers={"Location": "ftp://x/"}), "forbidden_url", "begin with"),
        (File(status=302, headers={"Location": "http://10.0.0.1/"}), "forbidden_url", "not public"),
        (File(status=302, headers={"Location": "http://[1"}), "forbidden_url", "neither a name"),
    ],
)
def test_what_cannot_be_had_fails_the_job_at_once_and_says_why(
    runtime: Runtime, files: FileServer, answer: File, code: str, told: str
) -> None:
    files.files["/it?key=hush"] = files.files["/it"] = answer
    job = run(runtime, add_remote_job(runtime.database, f"{files.base}/it?key=hush"))
    assert (job.state, job.error_code) == ("failed", code)
    assert told in (job.error_detail or "")
    assert "hush" not in (job.error_detail or "")


def test_a_file_of_unknown_length_is_bounded_as_it_comes(
    runtime: Runtime, files: FileServer, storage: Storage
) -> None:
    body = bytes(PART_BYTES + MIB)
    url = files.put("/long", body, headers={"Content-Length": ""})
    before = stored(storage)
    job = run(
        within(runtime, max_upload_bytes=PART_BYTES + 10), add_remote_job(runtime.database, url)
    )
    assert (job.state, job.error_code) == ("failed", "upload_too_large")
    assert stored(storage) == before


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(
    runtime: Runtime, files: FileServer, status: int
) -> None:
    url = files.put("/busy", AUDIO, status=status)
    job_id = add_remote_job(runtime.database, url)
    assert run(runtime, job_id).state == "running"
    files.put("/busy", AUDIO)
    assert run(runtime, job_id).stage == "preparing"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1:9/", "outbound_failed"),
        ("http://nowhere.invalid/", "address_forbidden"),
    ],
)
def test_a_host_that_cannot_be_reached_fails_the_job_after_the_last_attempt(
    runtime: Runtime, url: str, code: str
) -> None:
    def resolver(host: str) -> list[str]:
        return ["10.0.0.1"]

    outbound = Outbound(allow_http=True, allow=["127.0.0.0/8"], resolver=resolver)
    job_id = add_remote_job(runtime.database, url)
    walled = replace(runtime, outbound=outbound)
    assert run(walled, job_id, attempts=2).state == "running"
    job = run(walled, job_id)
    assert (job.state, job.error_code) == ("failed", code)


def test_a_redirect_leads_to_the_file_and_each_url_is_checked(
    runtime: Runtime, files: FileServer
) -> None:
    files.put("/c/end.mp3", AUDIO)
    files.put("/b", status=307, headers={"Location": "c/end.mp3"})
    url = files.put("/a", status=302, headers={"Location": f"{files.base}/b#part"})
    job = run(runtime, add_remote_job(runtime.database, url))
    assert (job.stage, job.source_name) == ("preparing", "end.mp3")


def test_a_transfer_that_breaks_off_goes_on_where_it_was(
    runtime: Runtime, files: FileServer
) -> None:
    audio = os.urandom(3 * MIB)
    told = {"Accept-Ranges": "bytes", "ETag": '"v1"'}
    url = files.put("/breaks", audio, headers=told, breaks_after=MIB)
    files.asked.clear()
    job = run(runtime, add_remote_job(runtime.database, url))
    assert job.sha256 == hashlib.sha256(audio).hexdigest()
    assert [asked.headers.get("range") for asked in files.asked] == [None, f"bytes={MIB}-"]


def test_a_transfer_that_cannot_go_on_is_begun_anew_by_the_next_attempt(
    runtime: Runtime, files: FileServer
) -> None:
    audio = os.urandom(2 * MIB)
    job_id = add_remote_job(runtime.database, files.put("/cut", audio, breaks_after=MIB))
    assert run(runtime, job_id).sha256 is None
    assert run(runtime, job_id).sha256 == hashlib.sha256(audio).hexdigest()


def test_a_file_that_takes_too_long_fails_the_job(runtime: Runtime, files: FileServer) -> None:
    url = files.put("/slow", AUDIO)
    job = run(within(runtime, fetch_limit_s=1e-6), add_remote_job(runtime.database, url))
    assert (job.state, job.error_code) == ("failed", "fetch_too_slow")
    assert "LONGHAND_FETCH_LIMIT_S" in (job.error_detail or "")


def test_a_server_that_falls_silent_is_asked_again(
    runtime: Runtime, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = Event()
    url = files.put("/silent", bytes(MIB), at=lambda _: may_go_on.wait(60))
    job_id = add_remote_job(runtime.database, url)
    with monkeypatch.context() as impatient:
        impatient.setattr(fetching, "IDLE_S", 0.3)
        assert run(runtime, job_id).sha256 is None
    may_go_on.set()
    with runtime.database.begin() as connection:
        told = connection.execute(
            text("SELECT detail FROM job_events WHERE job_id = :id AND event = 'step.retried'"),
            {"id": job_id},
        ).scalar_one()
    assert told == "outbound_failed: nothing was received within 0.3 seconds"
    assert run(runtime, job_id).stage == "preparing"


def test_a_server_that_trickles_is_given_up(
    runtime: Runtime, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(fetching, "MIN_BYTES_S", 10**12)
    job = run(runtime, add_remote_job(runtime.database, files.put("/trickle", AUDIO)))
    assert (job.state, job.error_code) == ("failed", "fetch_too_slow")


def test_progress_shows_what_is_fetched_and_a_cancel_stops_it(
    runtime: Runtime, files: FileServer, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "NOTE_EVERY_S", 0.0)
    audio = bytes(4 * PART_BYTES)
    seen: list[JobView] = []
    note = steps.note_fetched

    def look(database: Engine, claimed: steps.Claim, n_bytes: int, total: int | None) -> None:
        note(database, claimed, n_bytes, total)
        if n_bytes > PART_BYTES and not seen:
            seen.append(get_job(database, "default", claimed.job_id))
            cancel_job(database, "default", claimed.job_id, max_attempts=3)
            for lease in list(runtime.heartbeat._held):
                lease.lose()

    monkeypatch.setattr(steps, "note_fetched", look)
    job_id = add_remote_job(runtime.database, files.put("/large", audio))
    job = run(runtime, job_id)
    assert (seen[0].state, seen[0].stage) == ("running", "fetching")
    assert PART_BYTES < (seen[0].fetched_bytes or 0) < len(audio)
    assert seen[0].fetch_total_bytes == len(audio)
    assert job.state == "canceled"
    assert not any(job_prefix(job_id) in key for key in stored(storage))


def test_a_canceled_fetch_is_retried_from_its_url(runtime: Runtime, files: FileServer) -> None:
    job_id = add_remote_job(runtime.database, files.put("/again", AUDIO))
    cancel_job(runtime.database, "default", job_id, max_attempts=3)
    retry_job(runtime.database, "default", job_id, max_attempts=3)
    job = run(runtime, job_id)
    assert (job.run, job.stage) == (2, "preparing")


def test_a_stale_worker_replaces_nothing(
    runtime: Runtime, files: FileServer, storage: Storage
) -> None:
    database = runtime.database
    job_id = add_remote_job(database, files.put("/fence", AUDIO))
    (step,) = step_ids(database, job_id, "fetch")
    stale = claim_step(database, step)
    assert stale is not None
    steps.release(database, stale)
    job = run(runtime, job_id)
    late = steps.Fetched("elsewhere", "late", 1, "0" * 64)
    with pytest.raises(LeaseLost):
        steps.complete_fetch(database, stale, late, fingerprint=None, fetch_s=1, max_attempts=3)
    kept = claim(database, job_id, "prepare").source_key
    assert (job.source_name, storage.read(kept, 0, 99)) == ("fence", AUDIO)


def transcribed(runtime: Runtime, files: FileServer, path: str) -> UUID:
    """Fetch a file and transcribe it."""
    job_id = add_remote_job(runtime.database, files.put(path, AUDIO))
    run(runtime, job_id)
    prepare(runtime.database, job_id, chunks=1)
    transcribe(runtime.database, claim(runtime.database, job_id, "transcribe"))
    finish(runtime.database, claim(runtime.database, job_id, "finish"))
    return job_id


def test_equal_files_share_a_transcript_once_they_are_fetched(
    runtime: Runtime, files: FileServer
) -> None:
    first = transcribed(runtime, files, "/one")
    other = add_remote_job(runtime.database, files.put("/two", AUDIO))
    apart = add_remote_job(runtime.database, files.put("/three", AUDIO), cache=False)
    job = run(runtime, other)
    assert (job.state, job.cached) == (JobState.SUCCEEDED, True)
    assert not step_ids(runtime.database, other, "prepare")
    assert run(runtime, apart).stage == "preparing"
    assert get_job(runtime.database, "default", first).state == "succeeded"


def test_a_fetched_job_waits_for_an_equal_one_and_goes_on_when_that_fails(
    runtime: Runtime, files: FileServer
) -> None:
    database = runtime.database
    original = add_remote_job(database, files.put("/one", AUDIO))
    copy = add_remote_job(database, files.put("/two", AUDIO))
    run(runtime, original)
    assert (run(runtime, copy).state, step_ids(database, copy, "prepare")) == ("queued", [])
    cancel_job(database, "default", original, max_attempts=3)
    assert step_ids(database, copy, "prepare")
    fail(database, copy)
    retry_job(database, "default", copy, max_attempts=3)
    assert claim(database, copy, "prepare").source_bytes == len(AUDIO)


def test_an_uploaded_file_and_a_fetched_one_are_equal(runtime: Runtime, files: FileServer) -> None:
    digest = hashlib.sha256(AUDIO).hexdigest()
    options = new_job().options
    equal = fingerprint(digest, options, load_catalogue(runtime.settings.catalogue))
    job = new_job(sha256=digest, fingerprint=equal)
    create_job(runtime.database, job, max_attempts=3)
    fetched = add_remote_job(runtime.database, files.put("/same", AUDIO))
    assert run(runtime, fetched).state == "queued"
    assert not step_ids(runtime.database, fetched, "prepare")


def test_a_tenant_s_fetches_leave_slots_to_others(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO tenants (id, name) VALUES ('other', 'other')"))
        connection.execute(
            text("""
                INSERT INTO workers (id, role, queues, slots, state, device, version)
                VALUES ('w', 'cpu', ARRAY['cpu.fetch'], 5, 'ready', 'cpu', 'test')
            """)
        )
    mine = [add_remote_job(database, "http://127.0.0.1/") for _ in range(6)]

    def take() -> list[UUID]:
        taken = steps.claim_next(database, FETCH_QUEUE, owner="w", lease_s=30)
        return [each.job_id for each in taken.claims]

    first = [*take(), *take()]
    theirs = add_remote_job(database, "http://127.0.0.1/", tenant="other")
    assert take() == [theirs]
    assert set(first + take()) < set(mine)
    assert take() == []  # one slot is left to other steps
