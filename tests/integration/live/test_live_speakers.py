"""Speakers and edits of ``/ws/stt``: told with finals, which wait for nobody."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.live import voices
from harness.live.audio import say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.voices import DIARIZER, VoiceHearer, quietly
from harness.servers.api_server import api
from shared.infra.settings import Settings

LOUD = say(1, 2, 3, 4, 5, 6) + silence(0.8)
QUIET = quietly(say(7, 8, 9, 10, 11, 12)) + silence(0.8)
SHORT = say(13) + silence(0.8)


@pytest.fixture(scope="module")
def hearer() -> VoiceHearer:
    return VoiceHearer()


@pytest.fixture(scope="module")
def client(module_settings: Settings, hearer: VoiceHearer) -> Iterator[httpx.Client]:
    with api(module_settings, hearer.make) as client:
        yield client


@pytest.fixture(autouse=True)
def well(hearer: VoiceHearer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the test before did to the workers is over."""
    for name, value in vars(VoiceHearer()).items():
        if name != "requests":
            monkeypatch.setattr(hearer, name, value)


def finals(talker: LiveClient, *parts: bytes) -> list[dict[str, Any]]:
    """Send audio, each part once the final of the one before is there, and return the finals."""
    found = []
    for part in parts:
        talker.stream(part)
        found += of("final_transcript", talker.read_until("final_transcript"))
    return found


def test_who_returns_has_the_same_number_and_short_finals_have_none(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config={"speakers": True})
        told = finals(talker, LOUD, QUIET, SHORT, LOUD, QUIET)

    assert [final["speaker"] for final in told] == [0, 1, None, 0, 1]
    assert [{word["speaker"] for word in final["words"]} for final in told] == [
        *({0}, {1}, {None}, {0}, {1})
    ]


def test_nobody_is_asked_whose_voice_it_is_unless_the_client_wants_to_know(
    client: httpx.Client, hearer: VoiceHearer
) -> None:
    hearer.requests.clear()
    with live(client) as talker:
        talker.start()
        (told,) = finals(talker, LOUD)

    assert (told["speaker"], told["words"][0]["speaker"]) == (None, None)
    assert DIARIZER not in {request.model for request in hearer.requests}


@pytest.mark.parametrize("fault", ["slow", "failing"])
def test_a_worker_that_hears_no_voices_costs_no_final(
    client: httpx.Client, hearer: VoiceHearer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(voices, "WAIT_S", 0.1)
    monkeypatch.setattr(hearer, "voice_delay_s", 3600.0 if fault == "slow" else 0.0)
    monkeypatch.setattr(hearer, "voice_error", "internal_error")
    with live(client) as talker:
        talker.start(config={"speakers": True})
        told = finals(talker, LOUD, QUIET)
        monkeypatch.setattr(voices, "WAIT_S", 60.0)
        monkeypatch.setattr(hearer, "voice_delay_s", 0.0)
        monkeypatch.setattr(hearer, "voice_error", None)
        told += finals(talker, LOUD)

    assert [final["text"] for final in told[:2]] == [
        texts(1, 2, 3, 4, 5, 6),
        texts(7, 8, 9, 10, 11, 12),
    ]
    assert [final["speaker"] for final in told] == [None, None, 0]


def test_a_client_is_told_that_no_worker_tells_speakers_apart(
    client: httpx.Client, hearer: VoiceHearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearer, "models", frozenset({"oracle"}))
    with live(client) as talker:
        assert talker.start(config={"speakers": True})["type"] == "session_started"
        assert talker.read()["code"] == "SPEAKERS_UNAVAILABLE"
        (told,) = finals(talker, LOUD)

    assert (told["text"], told["speaker"]) == (texts(1, 2, 3, 4, 5, 6), None)


def test_speakers_are_known_when_a_session_goes_on(client: httpx.Client) -> None:
    with live(client) as talker:
        started = talker.start(config={"speakers": {"max": 3}})
        first, second = finals(talker, LOUD, QUIET)
    with live(client) as talker:
        talker.start(resume_token=started["resume_token"], last_segment=second["segment_id"])
        again = finals(talker, QUIET, LOUD)

    assert [final["speaker"] for final in (first, second, *again)] == [0, 1, 1, 0]


def test_edits_are_told_in_partials_and_finals(client: httpx.Client) -> None:
    spelling = {texts(1, 2): "One Two", texts(4): ""}
    with live(client) as talker:
        talker.start(config={"spelling": spelling, "mask": texts(5)})
        talker.stream(LOUD[:-25_600], pause_s=0.01)
        shown = talker.read_until("partial_transcript")  # it need not be quicker than the final
        talker.send(silence(0.8))
        *rest, final = talker.read_until("final_transcript")

    masked = "*" * len(texts(5))
    assert final["text"] == f"One Two {texts(3)} {masked} {texts(6)}"
    partials = of("partial_transcript", shown + rest)
    assert all(final["text"].startswith(each["stable_text"]) for each in partials)


@pytest.mark.parametrize(
    "config",
    [{"speakers": {"count": 2, "max": 3}}, {"speakers": {"max": 0}}, {"spelling": {"a": 1}}],
)
def test_what_cannot_be_is_refused(client: httpx.Client, config: dict[str, Any]) -> None:
    with live(client) as talker:
        assert talker.start(config=config)["code"] == "INVALID_MESSAGE"


def test_the_job_of_a_saved_session_is_asked_for_the_same(client: httpx.Client) -> None:
    asked = {"save": True, "speakers": {"max": 3}, "spelling": {"long hand": "Longhand"}}
    with live(client) as talker:
        talker.start(config=asked)
        talker.stream(LOUD)
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    job = client.get(f"/jobs/{messages[-1]['job_id']}").raise_for_status().json()
    assert (job["speakers"]["model"], job["speakers"]["max"]) == (DIARIZER, 3)
    assert job["edits"]["spelling"] == asked["spelling"]
