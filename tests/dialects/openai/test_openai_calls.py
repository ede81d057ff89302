"""OpenAI's SDK while its jobs are slow, fail, or are many; the work is done by hand."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import openai
import pytest
from openai import OpenAI
from sqlalchemy import Engine, text

from api.app import end_waits
from api.problems import RETRY_AFTER_S
from harness.clients.calls import AUDIO, Caller, active_jobs, calling
from harness.jobs.equal import compute, store
from harness.jobs.job_store import claim
from harness.jobs.spoken import complete_plan, hear, plan, said_in
from harness.programs.workers import wait_until
from harness.servers.api_server import Relay
from shared.infra.errors import ModelError
from shared.infra.settings import Settings
from shared.store import steps
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES
from shared.store.jobs.calls import cancel_unwanted
from shared.store.jobs.cancel import cancel_job
from shared.store.jobs.read import get_job

FILE = ("a.wav", AUDIO)


@contextmanager
def dialing(
    settings: Settings, database: Engine, *, retries: int = 0, **changes: Any
) -> Iterator[tuple[Caller, OpenAI]]:
    """Serve the API with keys on, and yield a client of OpenAI's."""
    _, key = create_key(database, "default", "a vendor's client", ALL_SCOPES)
    with (
        calling(settings, auth="on", **changes) as caller,
        OpenAI(
            base_url=f"{caller.url}/v1",
            api_key=key,
            max_retries=retries,
            _strict_response_validation=True,
        ) as client,
    ):
        caller.client.headers["X-API-Key"] = key
        yield caller, client


@pytest.fixture
def dialed(settings: Settings, database: Engine) -> Iterator[tuple[Caller, OpenAI]]:
    with dialing(settings, database) as both:
        yield both


def begin(caller: Caller, client: OpenAI, **asked: Any) -> "Future[Any]":
    """Begin a transcription in a thread."""
    return caller.pool.submit(
        client.audio.transcriptions.create, **{"model": "whisper-1", "file": FILE} | asked
    )


def count_jobs(database: Engine) -> int:
    with database.begin() as connection:
        return int(connection.execute(text("SELECT count(*) FROM jobs")).scalar_one())


def test_a_slow_job_is_waited_for_beyond_the_wait_of_our_own_calls(
    settings: Settings, database: Engine
) -> None:
    with dialing(settings, database, call_wait_s=0.1) as (caller, client):
        called = begin(caller, client)
        job_id = caller.only_job(database)
        time.sleep(0.3)
        assert not called.done()
        compute(database, job_id, "Hello", "there")
        assert called.result().text == "Hello there"
        assert caller.metric('stt_requests_total{language="en",status="success"} 1.0')


@contextmanager
def relayed(caller: Caller, client: OpenAI, retries: int) -> Iterator[tuple[Relay, OpenAI]]:
    """Yield a relay to the API that can be cut, and the client behind it."""
    relay = Relay(int(caller.url.rpartition(":")[2]))
    base_url = f"http://127.0.0.1:{relay.port}/v1"
    try:
        yield relay, client.with_options(base_url=base_url, max_retries=retries)
    finally:
        relay.cut()


def test_a_retry_of_the_sdk_joins_the_job_under_way(
    dialed: tuple[Caller, OpenAI], database: Engine
) -> None:
    caller, client = dialed
    with relayed(caller, client, retries=9) as (relay, far):
        called = begin(caller, far)
        job_id = caller.only_job(database)
        relay.go_away()
        wait_until(lambda: caller.waiting() == {})
        relay.come_back()
        wait_until(lambda: caller.waiting() == {job_id: 1})
        compute(database, job_id)
        assert called.result().text == "hello there"
        assert count_jobs(database) == 1


def test_a_job_whose_client_has_left_is_canceled_after_the_grace(
    settings: Settings, database: Engine
) -> None:
    with (
        dialing(settings, database, call_grace_s=0.6) as (caller, client),
        relayed(caller, client, retries=0) as (relay, far),
    ):
        called = begin(caller, far)
        job_id = caller.only_job(database)
        relay.go_away()
        assert isinstance(called.exception(), openai.APIConnectionError)
        wait_until(lambda: caller.waiting() == {})
        wait_until(lambda: cancel_unwanted(database, max_attempts=3))
        assert get_job(database, "default", job_id).state == "canceled"


def test_clients_beyond_the_capacity_are_told_when_to_come_again(
    settings: Settings, database: Engine
) -> None:
    with dialing(settings, database, max_calls=1) as (caller, client):
        first = begin(caller, client)
        job_id = caller.only_job(database)
        error = begin(caller, client).exception()
        assert isinstance(error, openai.InternalServerError)
        assert (error.status_code, error.code, error.type) == (
            503,
            "too_many_calls",
            "server_error",
        )
        assert error.response.headers["retry-after"] == str(RETRY_AFTER_S)
        assert error.response.headers["x-should-retry"] == "true"
        compute(database, job_id)
        assert first.result().text == "hello there"


def test_a_tenant_beyond_its_quota_is_told_when_to_come_again(
    settings: Settings, database: Engine
) -> None:
    with dialing(settings, database, tenant_requests_per_minute=1) as (_, client):
        with pytest.raises(openai.RateLimitError) as refused:
            list_models_thrice(client)  # a minute may end in between
        error = refused.value
        assert (error.code, error.type) == ("rate_limit_exceeded", "rate_limit_error")
        assert 0 < int(error.response.headers["retry-after"]) <= 60
        assert error.response.headers["x-should-retry"] == "true"


def list_models_thrice(client: OpenAI) -> None:
    for _ in range(3):
        client.models.list()


def fail(database: Engine, job_id: UUID) -> None:
    steps.fail(database, claim(database, job_id, "prepare"), ModelError("no: it is broken"))


def cancel(database: Engine, job_id: UUID) -> None:
    cancel_job(database, "default", job_id, max_attempts=3)


@pytest.mark.parametrize(
    ("end", "status", "code"), [(fail, 500, "job_failed"), (cancel, 409, "job_canceled")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_job_that_ends_without_a_transcript_is_not_sent_again(
    settings: Settings,
    database: Engine,
    end: Callable[[Engine, UUID], None],
    status: int,
    code: str,
    stream: bool,
) -> None:
    with dialing(settings, database, retries=2) as (caller, client):
        called = begin(caller, client, stream=stream)
        end(database, caller.only_job(database))
        error = called.exception()
        assert isinstance(error, openai.APIStatusError)
        assert (error.status_code, error.code) == (status, code)
        assert error.response.headers["x-should-retry"] == "false"
        assert count_jobs(database) == 1


def test_a_server_that_stops_says_that_the_job_goes_on(
    dialed: tuple[Caller, OpenAI], database: Engine
) -> None:
    caller, client = dialed
    called = begin(caller, client)
    caller.only_job(database)
    end_waits(caller.app)
    error = called.exception()
    assert isinstance(error, openai.InternalServerError)
    assert (error.status_code, error.code) == (503, "job_unfinished")
    assert error.response.headers["x-should-retry"] == "true"
    assert len(active_jobs(database)) == 1


def test_a_translation_is_a_job_that_translates(
    dialed: tuple[Caller, OpenAI], database: Engine
) -> None:
    caller, client = dialed
    called = caller.pool.submit(
        client.audio.translations.create,
        model="whisper-1",
        file=FILE,
        response_format="verbose_json",
        prompt="x" * 1_500,
    )
    job_id = caller.only_job(database)
    options = get_job(database, "default", job_id).options
    assert (options.task, options.model) == ("translate", "whisper-base")
    assert options.prompt == "x" * 1_000
    compute(database, job_id)
    found = called.result()
    assert (found.text, found.language) == ("hello there", "english")


def test_keywords_and_language_are_options_of_the_job(
    dialed: tuple[Caller, OpenAI], database: Engine
) -> None:
    caller, client = dialed
    called = begin(
        caller,
        client,
        model="whisper-base",
        keywords=["Godot", "Estragon", *(f"word{number}" for number in range(40))],
        languages=["fr"],
        prompt="On attend.",
    )
    job_id = caller.only_job(database)
    options = get_job(database, "default", job_id).options
    assert (options.model, options.language, options.prompt) == ("whisper-base", "fr", "On attend.")
    assert (options.hotwords or "").startswith("Godot, Estragon, word0, ")
    compute(database, job_id)
    assert called.result().languages[0].code == "en"


class Listener:
    """Reads a stream by hand, event by event."""

    def __init__(self, caller: Caller, **fields: str) -> None:
        self._sending = caller.client.stream(
            "POST",
            "/v1/audio/transcriptions",
            data={"stream": "true", **fields},
            files={"file": FILE},
        )
        self.events: list[dict[str, Any]] = []

    def listen(self) -> "Listener":
        """Read to the end."""
        with self._sending as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.events.append(json.loads(line.removeprefix("data: ")))
        return self

    @property
    def text(self) -> str:
        return "".join(each.get("delta", "") for each in self.events)


def test_deltas_come_in_the_order_of_time_as_chunks_are_done(
    dialed: tuple[Caller, OpenAI], database: Engine
) -> None:
    caller, _ = dialed
    listener = Listener(caller, **{"include[]": "logprobs"})
    listening = caller.pool.submit(listener.listen)
    job_id = caller.only_job(database)
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, range(4))
    complete_plan(database, preparing, 4)
    spoken = [" ".join(said_in(idx)) for idx in range(4)]
    hear(database, job_id, 2)
    hear(database, job_id, 0)
    hear(database, job_id, 1)
    # What the last chunk that is done says may still change, at its border.
    wait_until(lambda: listener.text == " ".join(spoken[:2]))
    hear(database, job_id, 3)
    wait_until(lambda: listener.text == " ".join(spoken[:3]))
    store(database, job_id, *spoken)
    listening.result()
    *deltas, done = listener.events
    assert listener.text == done["text"] == " ".join(spoken)
    assert done["type"] == "transcript.text.done"
    told = [each["token"] for delta in deltas for each in delta["logprobs"]]
    assert "".join(told[: 2 * 3]) == " ".join(spoken[:3])


def test_a_stream_whose_job_fails_midway_ends_with_the_error(
    dialed: tuple[Caller, OpenAI], database: Engine
) -> None:
    caller, client = dialed
    called = begin(caller, client, stream=True)
    job_id = caller.only_job(database)
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, range(3))
    complete_plan(database, preparing, 3)
    for idx in (0, 1):
        hear(database, job_id, idx)
    events = iter(called.result())
    assert next(events).delta == " ".join(said_in(0))
    steps.fail(database, claim(database, job_id, "transcribe", 2), ModelError("no: it is broken"))
    with pytest.raises(openai.APIError) as failed:
        next(events)
    assert failed.value.code == "job_failed"
    wait_until(lambda: caller.metric('stt_requests_total{language="unknown",status="error"} 1.0'))
    wait_until(lambda: caller.waiting() == {})


def test_a_stream_whose_client_leaves_has_its_job_canceled_after_the_grace(
    settings: Settings, database: Engine
) -> None:
    with dialing(settings, database, call_grace_s=0.6) as (caller, client):
        called = begin(caller, client, stream=True)
        job_id = caller.only_job(database)
        preparing = claim(database, job_id, "prepare")
        plan(database, preparing, range(3))
        complete_plan(database, preparing, 3)
        for idx in (0, 1):
            hear(database, job_id, idx)
        stream = called.result()
        next(stream)
        stream.close()
        wait_until(lambda: caller.waiting() == {})
        wait_until(lambda: cancel_unwanted(database, max_attempts=3))
        assert get_job(database, "default", job_id).state == "canceled"
