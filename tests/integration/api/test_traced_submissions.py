"""Every way in keeps the client's trace with the job, or makes one; a live session is one span."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.live.audio import say, silence
from harness.live.clients import live, of
from harness.live.hearers import ToneHearer
from harness.peers.collector import Collector, collecting
from harness.programs.workers import wait_until
from harness.servers.api_server import api
from shared.infra import tracing
from shared.infra.settings import Settings
from shared.infra.tracing import TraceContext, export

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
FILE = {"file": ("a.wav", b"no sound")}
URL = "https://example.com/a.mp3"
SPEECH = silence(0.4) + say(1, 2, 3) + silence(0.8) + say(4) + silence(0.8)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        monkeypatch.setattr(export, "LAST_S", 60.0)  # no span is lost
        yield started


def context_of(database: Engine, job_id: str) -> TraceContext | None:
    with database.begin() as connection:
        header = connection.execute(
            text("SELECT traceparent FROM jobs WHERE id = :id"), {"id": UUID(job_id)}
        ).scalar_one()
    return TraceContext.parse(header)


def post(client: httpx.Client, path: str, **request: object) -> httpx.Response:
    answer = client.post(path, headers=CLIENT, **request)  # type: ignore[arg-type]
    assert answer.status_code in (200, 202), answer.text
    return answer


def test_all_ways_in_are_of_the_clients_trace_but_each_job_of_a_batch_has_its_own(
    settings: Settings, database: Engine, collector: Collector
) -> None:
    with api(settings) as client:
        jobs = {
            "form": post(client, "/jobs", files=FILE, data={"cache": "false"}).json()["id"],
            "URL": post(client, "/jobs", json={"audio_url": URL}).json()["id"],
            "dialect": post(client, "/v2/transcript", json={"audio_url": URL}).json()["id"],
        }
        batch = post(client, "/jobs/batch", json={"jobs": [{"audio_url": URL}] * 2}).json()
        alone = client.post("/jobs", files=FILE, data={"cache": "false"}).json()["id"]
    by_id = {span.span_id: span for span in collector.spans}
    for way, job_id in jobs.items():
        context = context_of(database, job_id)
        assert context is not None, way
        submission = by_id[context.span_id]
        assert (context.trace_id, submission.name) == (TRACE, "submit"), way
        assert submission.attributes["longhand.job.id"] == job_id
        request = by_id[submission.parent_id]
        assert request.name.startswith("POST /")
        assert request.parent_id == "b7ad6b7169203331"

    each = [context_of(database, job["job_id"]) for job in batch["results"]]
    contexts = [context for context in each if context is not None]
    assert len({context.trace_id for context in contexts} | {TRACE}) == 3
    (asked,) = (span for span in by_id.values() if span.name == "POST /jobs/batch")
    for context in contexts:
        assert by_id[context.span_id].links == [asked.span_id]

    own = context_of(database, alone)
    assert own is not None
    assert own.sampled
    assert own.trace_id != TRACE


def test_a_session_is_a_span_with_one_for_each_final_and_its_job_is_of_its_trace(
    settings: Settings, database: Engine, collector: Collector
) -> None:
    with api(settings, ToneHearer().make) as client:
        with live(client, additional_headers=CLIENT) as talker:
            talker.start(session_id="mine", config={"lang_code": "en", "save": True})
            talker.stream(SPEECH)
            talker.send({"type": "end_session"})
            messages, _ = talker.read_all()
        wait_until(lambda: any(span.name == "GET /ws/stt" for span in collector.spans))
    (session,) = (span for span in collector.spans if span.name == "GET /ws/stt")
    assert session.trace_id == TRACE
    assert session.attributes["http.response.status_code"] == 101
    finals = [span for span in collector.spans if span.name == "final"]
    assert len(finals) == len(of("final_transcript", messages)) == 2
    assert {span.parent_id for span in finals} == {session.span_id}
    context = context_of(database, messages[-1]["job_id"])
    assert context is not None
    assert context.trace_id == TRACE


def test_a_clients_trace_is_kept_and_none_is_made_up_where_nothing_is_traced(
    settings: Settings, database: Engine
) -> None:
    assert not tracing.endpoint()
    with api(settings) as client:
        told = post(client, "/jobs", files=FILE, data={"cache": "false"}).json()["id"]
        other = client.post("/jobs", files=FILE, data={"cache": "false"}).json()["id"]
    assert context_of(database, told) == TraceContext.parse(CLIENT["traceparent"])
    assert context_of(database, other) is None
