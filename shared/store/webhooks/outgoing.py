"""What attempts send: native events as they are stored, others in the form of their dialect."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, text
from uuid_utils.compat import uuid7

from shared.infra.database import read
from shared.infra.errors import (
    DeliveryVoid,
    JobNotFound,
    TranscriptDeleted,
    UnknownModel,
    WebhookNotFound,
)
from shared.infra.webhooks.attempt import Outgoing
from shared.infra.webhooks.signature import signed
from shared.models.catalogue import Catalogue
from shared.speech.dialects import deepgram
from shared.speech.files.formats import in_blocks
from shared.store.jobs.read import JobView, get_job
from shared.store.states import DeliveryState
from shared.store.transcripts import StoredTranscript, open_transcript
from shared.store.webhooks.deliveries import event_body
from shared.store.webhooks.endpoints import TEST_EVENT, EventType
from shared.store.webhooks.faces import FACE, AssemblyAIFace, DeepgramFace, Face

_SECRETS = """
    ARRAY[secret] || CASE WHEN old_secret_until > clock_timestamp() THEN ARRAY[old_secret]
                          ELSE '{}' END AS secrets,
    extract(epoch FROM clock_timestamp())::bigint AS timestamp
"""


def get_outgoing(engine: Engine, catalogue: Catalogue, delivery_id: str) -> Outgoing:
    """Return what the next attempt of a delivery sends.

    A long body is read from the database as it is sent, and once more before, for its length.

    Raises:
        DeliveryVoid: there is no next attempt; also while the body is iterated over.
        DatabaseUnavailable: Postgres cannot be reached; also then.
    """
    with read(engine) as connection:
        row = connection.execute(
            text(f"""
                SELECT webhook_deliveries.state, enabled, disabled_reason, url, face, {_SECRETS},
                       webhook_events.id::text AS event_id, type, body,
                       webhook_deliveries.tenant, webhook_events.job_id
                FROM webhook_deliveries
                JOIN webhook_events ON webhook_events.id = event_id
                JOIN webhook_endpoints ON webhook_endpoints.id = endpoint_id
                WHERE webhook_deliveries.id = :id
            """),  # noqa: S608 - the columns are a constant
            {"id": delivery_id},
        ).one_or_none()
    if row is None:
        raise DeliveryVoid("the webhook was deleted")
    if not row.enabled:
        raise DeliveryVoid(row.disabled_reason)
    if row.state != DeliveryState.PENDING:
        raise DeliveryVoid(f"the delivery is {row.state} already")
    if row.face is None:
        return signed(row.url, row.secrets, row.event_id, row.timestamp, row.body)
    return _in_form_of(FACE.validate_python(row.face), engine, catalogue, row)


def make_test(engine: Engine, tenant: str, endpoint_id: UUID) -> Outgoing:
    """Return a test event for an endpoint, enabled or not; ``record_test`` stores it.

    Raises:
        WebhookNotFound: there is none of that id, or it is another tenant's.
    """
    with read(engine, tenant) as connection:
        row = connection.execute(
            text(f"""
                SELECT url, {_SECRETS}, clock_timestamp() AS at FROM webhook_endpoints
                WHERE id = :id AND tenant = :tenant AND listed
            """),  # noqa: S608 - the columns are a constant
            {"id": endpoint_id, "tenant": tenant},
        ).one_or_none()
    if row is None:
        raise WebhookNotFound(f"there is no webhook {endpoint_id}")
    body = event_body(TEST_EVENT, row.at, {"webhook_id": str(endpoint_id)})
    return signed(row.url, row.secrets, str(uuid7()), row.timestamp, body)


def _in_form_of(face: Face, engine: Engine, catalogue: Catalogue, row: Row[Any]) -> Outgoing:
    """Return a job's end as a dialect tells it."""
    has_succeeded = row.type == EventType.SUCCEEDED
    headers = face.headers(row.secrets[0])
    match face:
        case AssemblyAIFace():
            status = "completed" if has_succeeded else "error"
            told = {"transcript_id": str(row.job_id), "status": status}
        case DeepgramFace() if has_succeeded:
            answer = _open_answer(face, engine, catalogue, row)
            n_bytes = sum(map(len, answer))
            return Outgoing(row.url, row.event_id, headers, answer, n_bytes, face.method)
        case DeepgramFace():
            error = json.loads(row.body)["data"].get("error")
            told = deepgram.job_error(str(row.job_id), error)
    body = json.dumps(told, ensure_ascii=False).encode()
    method = face.method if isinstance(face, DeepgramFace) else "POST"
    return Outgoing(row.url, row.event_id, headers, (body,), len(body), method)


def _open_answer(
    face: DeepgramFace, engine: Engine, catalogue: Catalogue, row: Row[Any]
) -> "_DeepgramAnswer":
    try:
        view = get_job(engine, row.tenant, row.job_id)
        transcript = open_transcript(engine, row.tenant, row.job_id)
    except (JobNotFound, TranscriptDeleted) as error:
        raise DeliveryVoid(str(error)) from error
    arch = ""
    with suppress(UnknownModel):  # the operator has removed it since
        arch = catalogue.get(view.model).engine
    return _DeepgramAnswer(view, arch, transcript, face.wish)


@dataclass(frozen=True, slots=True)
class _DeepgramAnswer:
    """An answer in pieces; each iteration reads the transcript anew, and gives the same bytes."""

    view: JobView
    engine: str
    transcript: StoredTranscript
    wish: deepgram.Wish

    def __iter__(self) -> Iterator[bytes]:
        parts = deepgram.write_answer(self.view, self.engine, self.transcript, self.wish)
        try:
            for block in in_blocks(parts):
                yield block.encode()
        except TranscriptDeleted as error:
            raise DeliveryVoid(str(error)) from error
