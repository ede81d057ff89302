"""Sessions of ``/ws/stt`` that are kept as jobs."""

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_resume import break_off

from api.live import recording
from harness.live.audio import say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import ToneHearer
from harness.programs.workers import fleet, wait_until
from harness.servers.api_server import api, rerouted
from shared.infra.settings import Settings

CONFIG = {"lang_code": "en", "save": True}
SPEECH = (
    silence(0.4) + say(1, 2, 3) + silence(0.8) + say(4, 5, 6) + silence(0.8) + say(7) + silence(0.3)
)
END = {"type": "end_session"}


@pytest.fixture
def platform(servers: Settings, hearer: ToneHearer, tmp_path: Path) -> Iterator[httpx.Client]:
    """The API with workers that do the jobs."""
    with fleet(servers, tmp_path) as workers, api(servers, hearer.make) as client:
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        workers.start("model", "--model", "oracle")
        yield client


def job_of(client: httpx.Client, job_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").raise_for_status().json()
        return job if job["finished_at"] else None

    return wait_until(ended)


def test_a_saved_session_is_a_job_with_all_words_and_the_live_text(
    platform: httpx.Client,
) -> None:
    with live(platform) as talker:
        talker.start(session_id="mine", config=CONFIG)
        talker.stream(SPEECH)
        talker.send(END)
        messages, code = talker.read_all()
    job = job_of(platform, messages[-1]["job_id"])

    finals = [final["text"] for final in of("final_transcript", messages)]
    assert code == 1000
    assert job["error"] is None
    assert job["transcript"]["text"] == texts(1, 2, 3, 4, 5, 6, 7)
    assert job["duration_s"] == pytest.approx(len(SPEECH) / 32_000)
    assert job["live_text"].splitlines() == finals == [texts(1, 2, 3), texts(4, 5, 6), texts(7)]
    assert job["metadata"] == {"session_id": "mine", "start_ms": 0.0}
    assert "live_text" not in platform.get("/jobs").json()["jobs"][0]


def vanish(talker: LiveClient) -> None:
    """Reset the connection, as a machine does that loses its power."""
    raw = talker.connection.socket
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    break_off(talker)


def stay(talker: LiveClient) -> None:
    """Leave the connection open."""


def go_on(
    client: httpx.Client, token: str, last_segment: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Resume the session, send the rest; return the answer and all messages."""
    with live(client) as talker:
        started = talker.start(resume_token=token, last_segment=last_segment)
        talker.stream(SPEECH[round(32 * started["acked_ms"]) :])
        talker.send(END)
        messages, _ = talker.read_all()
    return started, messages


def jobs_of(client: httpx.Client, session_id: str) -> list[dict[str, Any]]:
    """Return the jobs of a session, in its order."""
    jobs = client.get("/jobs").json()["jobs"]
    found = [job for job in jobs if job["metadata"].get("session_id") == session_id]
    return sorted(found, key=lambda job: float(job["metadata"]["start_ms"]))


@pytest.mark.parametrize("lose", [break_off, vanish, stay])
def test_a_saved_session_that_goes_on_at_its_process_is_one_job(
    platform: httpx.Client, lose: Callable[[LiveClient], None]
) -> None:
    with live(platform) as talker:
        token = talker.start(session_id=lose.__name__, config=CONFIG)["resume_token"]
        talker.stream(SPEECH[:80_000])  # a word of the second sentence is cut in two
        (final,) = of("final_transcript", talker.read_until("final_transcript"))
        lose(talker)
        _, messages = go_on(platform, token, final["segment_id"])
        last, _ = talker.read_all()
    job = job_of(platform, messages[-1]["job_id"])

    assert [each["id"] for each in jobs_of(platform, lose.__name__)] == [job["id"]]
    assert job["transcript"]["text"] == texts(1, 2, 3, 4, 5, 6, 7)
    assert job["duration_s"] == pytest.approx(len(SPEECH) / 32_000)
    assert job["live_text"].splitlines() == [texts(1, 2, 3), texts(4, 5, 6), texts(7)]
    assert job["metadata"] == {"session_id": lose.__name__, "start_ms": 0.0}
    assert [ended["job_id"] for ended in of("session_ended", last)] in ([], [None])


def test_a_saved_session_that_goes_on_elsewhere_has_two_jobs_with_each_sample_once(
    platform: httpx.Client, servers: Settings, hearer: ToneHearer
) -> None:
    with api(servers, hearer.make) as other:
        with live(other) as talker:
            token = talker.start(session_id="elsewhere", config=CONFIG)["resume_token"]
            talker.stream(SPEECH[:80_000])
            (final,) = of("final_transcript", talker.read_until("final_transcript"))
            vanish(talker)
        started, messages = go_on(platform, token, final["segment_id"])
    # The other server waits for its talker until it stops.
    wait_until(lambda: len(jobs_of(platform, "elsewhere")) == 2)
    jobs = [job_of(platform, job["id"]) for job in jobs_of(platform, "elsewhere")]

    assert jobs[1]["id"] == messages[-1]["job_id"]
    assert jobs[1]["metadata"]["start_ms"] == started["acked_ms"]
    assert [job["transcript"]["text"] for job in jobs] == [texts(1, 2, 3), texts(4, 5, 6, 7)]
    assert sum(job["duration_s"] for job in jobs) == pytest.approx(len(SPEECH) / 32_000)
    told = [texts(1, 2, 3), texts(4, 5, 6) + "\n" + texts(7)]
    assert [job["live_text"] for job in jobs] == told


def test_a_saved_session_with_which_nobody_goes_on_is_a_job_with_all_its_audio(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "GO_ON_S", 0.3)
    with live(client) as talker:
        token = talker.start(session_id="left", config=CONFIG)["resume_token"]
        talker.stream(SPEECH[:80_000])
        talker.read_until("final_transcript")
        break_off(talker)
    (job,) = wait_until(lambda: jobs_of(client, "left"))
    with live(client) as talker:
        refused = talker.start(resume_token=token)

    assert job["source"]["bytes"] == 44 + 80_000
    assert job["metadata"]["start_ms"] == 0.0
    assert refused["code"] == "SESSION_NOT_FOUND"


def test_an_outage_of_the_store_does_not_stop_the_session(
    servers: Settings, hearer: ToneHearer
) -> None:
    with (
        rerouted(servers, "storage_url") as (changed, relay),
        api(changed, hearer.make) as client,
        live(client) as talker,
    ):
        relay.go_away()
        talker.start(session_id="outage", config=CONFIG)
        talker.stream(SPEECH)
        talker.send(END)
        messages, code = talker.read_all()
        jobs = client.get("/jobs").json()["jobs"]

    said = " ".join(final["text"] for final in of("final_transcript", messages))
    assert said == texts(1, 2, 3, 4, 5, 6, 7)
    assert (messages[-1]["type"], messages[-1]["job_id"]) == ("session_ended", None)
    assert code == 1000
    assert "outage" not in [job["metadata"].get("session_id") for job in jobs]


def test_a_store_that_is_too_slow_is_told_and_the_session_goes_on(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_WAITING_BYTES", 40_000)
    with live(client) as talker:
        talker.start(config=CONFIG)
        talker.stream(SPEECH)
        talker.send(END)
        messages, _ = talker.read_all()

    (error,) = of("error", messages)
    assert error["code"] == "SAVE_FAILED"
    assert len(of("final_transcript", messages)) == 3
    assert messages[-1]["job_id"] is None


def test_a_canceled_session_leaves_no_job(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(session_id="canceled", config=CONFIG)
        talker.stream(SPEECH)
        talker.send({"type": "cancel"})
        messages, _ = talker.read_all()
    jobs = client.get("/jobs").json()["jobs"]

    assert messages[-1]["job_id"] is None
    assert "canceled" not in [job["metadata"].get("session_id") for job in jobs]
