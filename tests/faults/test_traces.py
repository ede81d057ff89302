"""A job is one trace, from the request that submits it to its webhook, whatever dies on the way."""

import io
import os
import signal
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from docs.trace_picture import draw
from harness.jobs.job_store import end_leases
from harness.jobs.webhook_store import SECRET, on_loopback
from harness.peers.collector import Collector, Seen, collecting
from harness.peers.receivers import Receiver, receiving
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from harness.servers.api_server import api_process
from shared.infra.settings import Settings
from shared.queue.broker import make_broker
from shared.speech.audio.rate import SAMPLE_RATE
from worker.engines.oracle import encode

WORDS = range(1000, 1600)
"""About five minutes of them: a dozen chunks."""
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, CLIENT_SPAN = CLIENT.split("-")[1:3]
FILE_NAME = "a private name.wav"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that processes started from now on know of."""
    with collecting() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collectors-secret")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield started


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def platform(
    settings: Settings, database: Engine, tmp_path: Path, collector: Collector
) -> Iterator[tuple[httpx.Client, Fleet]]:
    """An API and the workers but for models, all of which are traced.

    Their leases outlast any pause: the test ends those of the worker that it kills.
    """
    del collector
    impatient = on_loopback(settings).model_copy(
        update={"lease_s": 20.0, "heartbeat_s": 0.5, "sweep_s": 0.5}
    )
    with make_broker(settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    log = tmp_path / "api.log"
    with fleet(impatient, tmp_path) as workers, api_process(impatient, log) as (client, _):
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        workers.start("deliver")
        yield client, workers


def submit(client: httpx.Client, receiver: Receiver, **headers: str) -> str:
    """Submit some minutes of words with a webhook; return the job's id."""
    samples, _ = encode(WORDS, gap_s=0.3)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    fields = {"model": "oracle", "webhook_url": receiver.url, "webhook_secret": SECRET}
    files = {"file": (FILE_NAME, buffer.getvalue())}
    answer = client.post("/jobs", data=fields, files=files, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def kill_with_chunks(worker: Worker, database: Engine) -> None:
    """``kill -9`` a model worker while it holds chunks."""
    running = text("SELECT id FROM steps WHERE kind = 'transcribe' AND state = 'running'")

    def caught() -> Sequence[int]:
        worker.signal(signal.SIGSTOP)
        with database.begin() as connection:
            held = connection.scalars(running).all()
        if not held:
            worker.signal(signal.SIGCONT)
        return held

    held = wait_until(caught)
    worker.kill()
    end_leases(database, held)


def number_of(span: Seen) -> tuple[int, int]:
    """Return the step's id and the number of the attempt."""
    attributes = span.attributes
    return int(attributes["messaging.message.id"]), attributes["longhand.step.attempt"]


def steps_of(spans: list[Seen], kind: str) -> list[Seen]:
    return [span for span in spans if span.attributes.get("longhand.step.kind") == kind]


def roots_of(spans: Sequence[Seen]) -> list[str]:
    """Return the names of those that the client's own span has for children."""
    return [span.name for span in spans if span.parent_id == CLIENT_SPAN]


def orphans_of(spans: Sequence[Seen]) -> set[str]:
    """Return the ids of parents that are not there."""
    return {span.parent_id for span in spans} - {span.span_id for span in spans} - {CLIENT_SPAN}


def test_a_job_is_one_trace_over_its_processes_and_the_death_of_one(
    platform: tuple[httpx.Client, Fleet],
    database: Engine,
    collector: Collector,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    client, workers = platform
    # It is to be caught with chunks, though the test may stand still.
    doomed = workers.start("model", "--model", "oracle", FAULTY_PACE_S="5")
    job_id = submit(client, receiver, traceparent=CLIENT)
    kill_with_chunks(doomed, database)
    workers.start("model", "--model", "oracle")
    client.get(f"/jobs/{job_id}", params={"wait": 60}, headers={"traceparent": CLIENT})
    (told,) = wait_until(lambda: list(receiver.requests))
    with database.begin() as connection:
        steps = connection.execute(text("SELECT id, attempt, lease_owner FROM steps")).all()
    numbers = {(step.id, n + 1) for step in steps for n in range(step.attempt)}
    # What the worker completed in the last tenth of a second before its death went with it.
    unsent = {(step.id, 1) for step in steps if f"-{doomed.process.pid}-" in step.lease_owner}

    def is_whole(spans: Sequence[Seen]) -> bool:
        """Each process sends its spans a while after they have ended."""
        told = {number_of(span) for span in spans if "longhand.step.kind" in span.attributes}
        return numbers - unsent <= told and len(roots_of(spans)) >= 2 and not orphans_of(spans)

    wait_until(lambda: is_whole(collector.of(TRACE)))
    spans = collector.of(TRACE)

    # No span is lost, doubled or an orphan.
    assert len({span.span_id for span in spans}) == len(spans)
    assert not orphans_of(spans)
    assert sorted(roots_of(spans)) == ["GET /jobs/{job_id}", "POST /jobs"]
    assert len({span.process for span in spans}) >= 4
    (submission,) = [span for span in spans if span.name == "submit"]
    attempts = [span for span in spans if "longhand.step.kind" in span.attributes]
    assert {span.parent_id for span in attempts} == {submission.span_id}
    assert {span.attributes["longhand.job.id"] for span in attempts} == {job_id}
    assert numbers - unsent <= set(map(number_of, attempts)) <= numbers

    # What the dead worker held was written by the sweep, and is what the next attempts link to.
    chunks = steps_of(spans, "transcribe")
    lost = {span.span_id: span for span in chunks if span.is_error}
    assert lost
    assert set(map(number_of, lost.values())) == {(step, 1) for step, n in numbers if n == 2}
    assert {span.attributes["error.type"] for span in lost.values()} == {"lease_expired"}
    assert {span.process.partition("@")[0] for span in lost.values()} == {"beat"}
    again = [span for span in chunks if span.attributes["longhand.step.attempt"] == 2]
    assert {link for span in again for link in span.links} >= lost.keys()

    # Each batch is a trace of its own; it and its chunks are linked with each other.
    batches = {span.span_id: span for span in collector.spans if span.name == "infer"}
    for chunk in chunks:
        if not chunk.is_error:
            assert any(
                chunk.span_id in batches[link].links for link in chunk.links if link in batches
            )
    assert all(not batch.parent_id and batch.trace_id != TRACE for batch in batches.values())

    # The receiver can go on with the trace.
    (delivery,) = steps_of(spans, "deliver")
    assert told.headers["traceparent"] == f"00-{TRACE}-{delivery.span_id}-01"
    assert delivery.attributes["http.response.status_code"] == 204

    # Nothing that was said, asked or is secret is in any span.
    for span in collector.spans:
        said = repr((span.name, span.attributes, span.resource))
        for secret in ("w01", FILE_NAME, "wait=", SECRET, "/hook", "collectors-secret"):
            assert secret not in said
    assert collector.headers[0]["authorization"] == "Bearer collectors-secret"

    picture = draw(spans)
    assert picture.count("<rect") > len(attempts)
    Path(os.environ.get("TRACE_PICTURE", tmp_path / "trace.svg")).write_text(picture)


def test_a_collector_that_does_not_answer_delays_no_job(
    platform: tuple[httpx.Client, Fleet], collector: Collector, receiver: Receiver
) -> None:
    client, workers = platform
    collector.hang()
    model = workers.start("model", "--model", "oracle")
    job_id = submit(client, receiver)
    assert collector.held.wait(60)
    job = client.get(f"/jobs/{job_id}", params={"wait": 60}).json()
    assert job["state"] == "succeeded"
    wait_until(lambda: receiver.requests)
    assert model.stop() == 0
    assert not collector.spans
