"""The page /docs, tried out as it is offered: every operation takes what the page sends."""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine
from uuid_utils.compat import uuid7

from harness.clients.swagger import operations
from harness.jobs.equal import compute, submit
from harness.jobs.job_store import add_batch
from harness.jobs.registry import enter_worker
from harness.jobs.webhook_store import add_hook, on_loopback, only
from harness.peers.receivers import receiving
from harness.servers.api_server import api
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope
from shared.store.limits import NO_LIMITS
from shared.store.objects.keys import source_key
from shared.store.share_links import create_share_link
from shared.store.uploads import NewUpload, create_upload


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    # No worker is here, so a call is answered with its job.
    with api(on_loopback(settings.model_copy(update={"call_wait_s": 0.1}))) as client:
        yield client


@pytest.fixture
def ids(database: Engine, storage: Storage) -> Iterator[dict[str, str]]:
    """Parameters of paths: a job that succeeded, a webhook, a delivery to it, a key, an upload."""
    with receiving() as receiver:
        hook, _ = add_hook(database, receiver.url)
        job = submit(database)
        storage.put(source_key(job), b"x")
        compute(database, job)
        delivery = only(database, job)
        key, _ = create_key(database, "default", "a page's", [Scope.LIVE])
        new = NewUpload(uuid7(), "default", "a.wav", 3, sha256=None, resumable=True)
        upload = create_upload(database, new, NO_LIMITS, keep_s=60)
        found = {"job_id": job, "webhook_id": hook, "delivery_id": delivery.id, "key_id": key.id}
        found |= {"batch_id": add_batch(database, 1), "upload_id": upload.id, "voice_id": uuid7()}
        found |= {"share_id": create_share_link(database, "default", job)[0].id}
        found |= {"tenant_id": "default", "worker_id": enter_worker(database, "model", "oracle")}
        yield {name: str(value) for name, value in found.items()}


CREATED = {
    "transcribe": 202,
    "submit_job": 202,
    "submit_jobs": 202,
    "add_webhook": 201,
    "begin_upload": 201,
    "begin_tus_upload": 201,
    "change_webhook": 200,
    "add_reference": 200,
}


def test_no_operation_refuses_what_the_page_makes_up(
    client: httpx.Client, ids: dict[str, str]
) -> None:
    answers = [
        (operation.spec["operationId"], client.send(request))
        for operation in operations(client.get("/openapi.json").json())
        for media_type in operation.media_types
        for request in [operation.request(client, ids, b"audio", media_type)]
    ]

    refused = {
        name: answer.text
        for name, answer in answers
        if answer.status_code in (400, 415, 422) or answer.status_code >= 500
    }
    assert refused == {}
    written = [(name, answer.status_code) for name, answer in answers if name in CREATED]
    assert {name for name, _ in written} == CREATED.keys()
    assert all(status == CREATED[name] for name, status in written), written


def test_a_file_alone_tried_out_is_a_job_without_anything_made_up(
    client: httpx.Client,
) -> None:
    (submit_job,) = (
        each
        for each in operations(client.get("/openapi.json").json())
        if each.spec["operationId"] == "submit_job"
    )
    form = "multipart/form-data"
    tried = client.send(submit_job.request(client, {}, b"audio", form)).json()
    plain = client.post("/jobs", files={"file": ("a.wav", b"audio")}).json()
    own = ("id", "created_at", "links", "cached", "waiting_for")
    assert {k: v for k, v in tried.items() if k not in own} == {
        k: v for k, v in plain.items() if k not in own
    }
