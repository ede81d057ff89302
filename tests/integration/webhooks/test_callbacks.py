"""Webhooks with a dialect's face: its form and its headers, by the deliveries that all have."""

import json
import secrets
from uuid import UUID

import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import TRANSCRIPT, claim, finish, prepare, transcribe
from harness.jobs.webhook_store import SECRET, TENANT, attempt, cancel, create, deliveries, only
from harness.peers.receivers import Receiver, Reply
from shared.infra.errors import LonghandError, NoWorker, UnreadableMedia
from shared.infra.outbound import MAX_URL_CHARS
from shared.speech.dialects.deepgram import Wish
from shared.speech.transcript.transcript import Segment, Transcript, Word
from shared.store import steps
from shared.store.jobs.retry import retry_job
from shared.store.retention import expire_transcripts
from shared.store.states import DeliveryState
from shared.store.webhooks.attempts import replay
from shared.store.webhooks.deliveries import find_own_webhook
from shared.store.webhooks.endpoints import JobWebhook
from shared.store.webhooks.faces import AssemblyAIFace, DeepgramFace
from worker.process.runtime import Runtime

WISH = Wish(formatted=True, paragraphs=True, utt_split_s=0.8, detected=True)
KEY_ID = UUID(int=7)
LOGIN = "Basic bmFtZTpwYXNz"


def deepgram(receiver: Receiver, secret: str = "", **face: object) -> JobWebhook:
    """A callback to the receiver; ``secret``: of the login in its URL."""
    given = DeepgramFace.model_validate({"wish": WISH, "key_id": KEY_ID, **face})
    return JobWebhook(receiver.url, secret, given)


def assemblyai(receiver: Receiver) -> JobWebhook:
    return JobWebhook(receiver.url, "a secret", AssemblyAIFace(secret_header="X-Token"))


def segment(idx: int) -> Segment:
    start, end, text = float(idx), idx + 0.5, f"Wörd{idx}."
    words = [Word(text=text, start=start, end=end, confidence=0.5)]
    return Segment(id=idx, start=start, end=end, text=text, words=words)


def succeed(database: Engine, hook: JobWebhook, transcript: Transcript = TRANSCRIPT) -> UUID:
    job_id = create(database, webhook=hook, metadata={"tags": ["a"]})
    prepare(database, job_id, chunks=1)
    transcribe(database, claim(database, job_id, "transcribe"))
    finish(database, claim(database, job_id, "finish"), transcript)
    return job_id


def fail(database: Engine, hook: JobWebhook, error: LonghandError) -> UUID:
    job_id = create(database, webhook=hook)
    steps.fail(database, claim(database, job_id, "prepare"), error)
    return job_id


def test_deepgrams_answer_is_sent_whole_however_many_pages_it_is_read_in(
    database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    segments = [segment(idx) for idx in range(250)]
    transcript = TRANSCRIPT.model_copy(update={"segments": segments, "duration_s": 250.0})
    receiver.reply(Reply(500), Reply(204))
    job_id = succeed(database, deepgram(receiver, LOGIN, method="PUT"), transcript)
    attempt(runtime, job_id)
    assert only(database).state == DeliveryState.PENDING
    attempt(runtime, job_id)

    first, again = receiver.requests
    assert first.body == again.body
    answer = json.loads(first.body)
    assert answer["metadata"]["request_id"] == str(job_id)
    assert answer["metadata"]["tags"] == ["a"]
    assert answer["metadata"]["model_info"]["oracle"]["arch"] == "oracle"
    (channel,) = answer["results"]["channels"]
    assert channel["detected_language"] == "en"
    (alternative,) = channel["alternatives"]
    said = [each.text for each in segments]
    assert [word["punctuated_word"] for word in alternative["words"]] == said
    assert alternative["transcript"] == " ".join(said)
    assert len(answer["results"]["utterances"]) == 1
    assert first.method == "PUT"
    sent = first.headers
    assert (sent["dg-token"], sent["authorization"]) == (str(KEY_ID), LOGIN)
    assert not any(name.startswith("webhook-") for name in sent)
    found = only(database)
    assert (found.state, found.face) == (DeliveryState.DELIVERED, "deepgram")
    assert [made.status_code for made in found.attempts] == [500, 204]


@pytest.mark.parametrize(
    ("error", "code"),
    [(UnreadableMedia("a poem"), "Bad Request"), (NoWorker("nobody came"), "job_failed")],
    ids=str,
)
def test_deepgrams_callback_tells_why_there_is_no_transcript(
    database: Engine, runtime: Runtime, receiver: Receiver, error: LonghandError, code: str
) -> None:
    job_id = fail(database, deepgram(receiver), error)
    attempt(runtime, job_id)
    (request,) = receiver.requests
    told = {"err_code": code, "err_msg": str(error), "request_id": str(job_id)}
    assert json.loads(request.body) == told
    assert (request.method, "authorization" in request.headers) == ("POST", False)


def test_deepgrams_callback_of_a_job_that_is_retried_tells_of_each_end(
    database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    job_id = create(database, webhook=deepgram(receiver))
    cancel(database, job_id)
    retry_job(database, TENANT, job_id, max_attempts=2)
    attempt(runtime, job_id)
    steps.fail(database, claim(database, job_id, "prepare"), UnreadableMedia("a poem"))
    attempt(runtime, job_id)
    told = [json.loads(request.body)["err_code"] for request in receiver.requests]
    assert told == ["job_canceled", "Bad Request"]


def test_nothing_is_sent_of_a_transcript_that_was_removed(
    database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    job_id = succeed(database, deepgram(receiver))
    assert expire_transcripts(database, keep_s=0, limit=10) == 1
    attempt(runtime, job_id)
    assert receiver.requests == []
    found = only(database)
    assert found.state == DeliveryState.FAILED
    assert "removed" in str(found.error)


def test_assemblyais_webhook_tells_the_status_beside_a_native_one(
    database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    succeeded = succeed(database, assemblyai(receiver))
    failed = fail(database, assemblyai(receiver), UnreadableMedia("a poem"))
    canceled = create(database, webhook=assemblyai(receiver))
    cancel(database, canceled)
    native = create(database, webhook=JobWebhook(receiver.url, SECRET))
    cancel(database, native)
    for job_id in (succeeded, failed, canceled, native):
        attempt(runtime, job_id)

    *faced, signed = receiver.requests
    assert [json.loads(request.body) for request in faced] == [
        {"transcript_id": str(succeeded), "status": "completed"},
        {"transcript_id": str(failed), "status": "error"},
        {"transcript_id": str(canceled), "status": "error"},
    ]
    assert {request.headers["x-token"] for request in faced} == {"a secret"}
    assert signed.verify(SECRET)["data"]["job_id"] == str(native)
    assert "x-token" not in signed.headers


def test_a_jobs_own_webhook_is_seen_without_its_secret_and_with_its_latest_status(
    database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    job_id = succeed(database, assemblyai(receiver))
    before = find_own_webhook(database, TENANT, job_id)
    assert before is not None
    assert (before.url, before.status_code) == (receiver.url, None)
    receiver.reply(Reply(503), Reply(201))
    for status in (503, 201):
        attempt(runtime, job_id)
        found = find_own_webhook(database, TENANT, job_id)
        assert found is not None
        assert found.status_code == status
        assert "a secret" not in repr(found)
    assert find_own_webhook(database, "somebody else", job_id) is None
    assert find_own_webhook(database, TENANT, create(database)) is None


def test_a_replay_is_in_the_same_form(
    database: Engine, runtime: Runtime, receiver: Receiver
) -> None:
    job_id = succeed(database, deepgram(receiver))
    attempt(runtime, job_id)
    replay(database, TENANT, only(database).id)
    attempt(runtime, job_id)
    first, again = receiver.requests
    assert first.body == again.body


def test_jobs_share_an_endpoint_if_url_secret_and_face_are_the_same(
    database: Engine, receiver: Receiver
) -> None:
    other = Wish(formatted=False, paragraphs=False, utt_split_s=None, detected=False)
    hooks = [
        *(deepgram(receiver), deepgram(receiver)),
        *(deepgram(receiver, LOGIN), deepgram(receiver, wish=other)),
        *(deepgram(receiver, method="PUT"), deepgram(receiver, key_id=None)),
        JobWebhook(receiver.url, "", AssemblyAIFace()),
    ]
    found = []
    for hook in hooks:
        job_id = create(database, webhook=hook)
        cancel(database, job_id)
        found += [view.endpoint_id for view in deliveries(database, job_id)]
    assert found[0] == found[1]
    assert len(set(found)) == len(hooks) - 1


def test_the_longest_url_and_secret_fit(database: Engine) -> None:
    url = "https://receiver.example/".ljust(MAX_URL_CHARS, "ä")
    hook = JobWebhook(url, secrets.token_hex(512), AssemblyAIFace(secret_header="X-Token"))
    cancel(database, create(database, webhook=hook))
    assert only(database).url == url
