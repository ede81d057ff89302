"""Events of a job by the SDK, over restarts of the API; and how a stream is put together."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from longhand_sdk import JobFailed, ProgressEvent, SegmentsEvent, StateEvent
from longhand_sdk.events import Decoder, Sent
from sqlalchemy import Engine

from harness.clients.sdk import Connect
from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim
from harness.jobs.spoken import ended_job, hear, planned, said_in
from harness.servers.api_server import Relay, api
from shared.infra.settings import Settings


class Restarted:
    """An API at one address, whose process is another one after each restart."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._running = settings, ExitStack()
        self._relay = Relay(self._start())
        self.url = f"http://127.0.0.1:{self._relay.port}"

    def restart(self) -> None:
        self._relay.go_away()
        self._running.close()
        self._relay.lead_to(self._start())
        self._relay.come_back()

    def close(self) -> None:
        self._relay.cut()
        self._running.close()

    def _start(self) -> int:
        client = self._running.enter_context(api(self._settings))
        return int(client.base_url.port or 0)


@pytest.fixture
def server(settings: Settings) -> Iterator[Restarted]:
    running = Restarted(settings)
    yield running
    running.close()


def test_events_over_two_restarts_of_the_api_come_once_each(
    server: Restarted, database: Engine, connect: Connect
) -> None:
    job_id = add_job(database)
    planned(database, job_id, 6)
    job = connect(server.url, sleep=lambda _: None).jobs.get(str(job_id))
    hear(database, job_id, 0)
    heard, states, ids = [], [], []

    for event in job.events():
        if not isinstance(event, ProgressEvent):
            ids.append(int(event.id))
        if isinstance(event, StateEvent):
            states.append(event.state)
        elif isinstance(event, SegmentsEvent):
            heard.append(event.chunk)
            if event.chunk in (1, 3):
                server.restart()
            if event.chunk < 5:
                hear(database, job_id, event.chunk + 1)
            else:
                job_store.finish(database, claim(database, job_id, "finish"))

    assert heard == [0, 1, 2, 3, 4, 5]
    assert states == ["queued", "running", "succeeded"]
    assert ids == sorted(set(ids))
    assert len(ids) == 9


def test_a_job_that_failed_has_the_words_of_its_finished_chunks(
    server: Restarted, database: Engine, connect: Connect
) -> None:
    job = connect(server.url).jobs.get(str(ended_job(database)))
    with pytest.raises(JobFailed, match="no: it is broken") as failed:
        job.wait()
    assert failed.value.code == "model_error"
    words = [word.text for word in failed.value.partial.words]
    assert words == [word for idx in range(3) for word in said_in(idx)]


STREAM = (
    "retry: 1500\n\n: still here\n\nevent: state\ndata: {\ndata: }\nid: 3\n\nevent: x\ndata:y\n\n"
)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_stream_may_come_in_any_pieces(piece: int, ending: str) -> None:
    text, decoder = STREAM.replace("\n", ending), Decoder()
    found = [
        event for at in range(0, len(text), piece) for event in decoder.feed(text[at : at + piece])
    ]
    assert found == [Sent("state", "{\n}", "3"), Sent("x", "y", "")]
    assert decoder.retry_s == 1.5


def test_an_event_that_is_not_whole_is_none() -> None:
    assert list(Decoder().feed("event: state\ndata: {}\n")) == []
