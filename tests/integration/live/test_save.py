"""Sessions of ``/ws/stt`` that are kept as jobs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from apiserver import api, relayed
from liveaudio import say, silence, texts
from liveclients import live, of
from livehearers import ToneHearer
from processes import fleet, wait_until
from test_resume import break_off

from api.live import recording
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


def test_each_connection_of_a_saved_session_has_a_job_and_they_have_each_word_once(
    platform: httpx.Client,
) -> None:
    with live(platform) as talker:
        token = talker.start(session_id="broken", config=CONFIG)["resume_token"]
        talker.stream(SPEECH[:80_000])
        (final,) = of("final_transcript", talker.read_until("final_transcript"))
        break_off(talker)
    with live(platform) as talker:
        started = talker.start(resume_token=token, last_segment=final["segment_id"])
        talker.stream(SPEECH[round(32 * started["acked_ms"]) :])
        talker.send(END)
        messages, _ = talker.read_all()

    def parts() -> list[dict[str, Any]] | None:
        jobs = platform.get("/jobs").json()["jobs"]
        found = [job for job in jobs if job["metadata"].get("session_id") == "broken"]
        return found if len(found) == 2 else None

    last, first = sorted(wait_until(parts), key=lambda job: -job["metadata"]["start_ms"])
    jobs = [job_of(platform, job["id"]) for job in (first, last)]

    assert last["id"] == messages[-1]["job_id"]
    assert last["metadata"]["start_ms"] == started["acked_ms"]
    assert [job["transcript"]["text"] for job in jobs] == [
        texts(1, 2, 3),
        texts(4, 5, 6, 7),
    ]
    assert sum(job["duration_s"] for job in jobs) == pytest.approx(len(SPEECH) / 32_000)
    assert [job["live_text"] for job in jobs] == [
        texts(1, 2, 3),
        texts(4, 5, 6) + "\n" + texts(7),
    ]


def test_an_outage_of_the_store_does_not_stop_the_session(
    servers: Settings, hearer: ToneHearer
) -> None:
    with (
        relayed(servers, "storage_url") as (changed, relay),
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
