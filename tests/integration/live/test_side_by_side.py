"""Sessions beside each other: none waits for another's text, and none gets it."""

from contextlib import ExitStack
from pathlib import Path

import httpx

from harness.live.audio import say, silence, texts
from harness.live.clients import live, of
from harness.live.hearers import ToneHearer
from harness.programs.workers import fleet, wait_until
from harness.servers.api_server import api
from shared.infra.settings import Settings


def test_a_talker_whose_texts_never_come_and_who_floods_the_server_holds_up_nobody(
    client: httpx.Client, hearer: ToneHearer
) -> None:
    hearer.deaf_to = "pt"
    sentence = say(1, 2, 3) + silence(0.7)
    with live(client) as stuck, live(client) as talker:
        stuck.start(config={"lang_code": "pt"})
        stuck.stream(silence(0.3) + 5 * sentence, frame_bytes=64_000)
        wait_until(lambda: len(hearer.finals) >= 2)
        talker.start(config={"lang_code": "en"})
        talker.stream(silence(0.3) + sentence)
        talker.send({"type": "end_session"})
        messages, code = talker.read_all()
        hearer.deaf_to = None

    assert [final["text"] for final in of("final_transcript", messages)] == [texts(1, 2, 3)]
    assert code == 1000


def test_twelve_talkers_of_one_worker_have_their_own_words(
    servers: Settings, tmp_path: Path
) -> None:
    numbers = [range(at, at + 4) for at in range(0, 48, 4)]
    speech = [silence(0.3) + say(*each) + silence(0.6) for each in numbers]
    settings = servers.model_copy(update={"live_max_wait_ms": 60_000.0})  # a call may take long
    with fleet(settings, tmp_path) as workers, api(settings) as client, ExitStack() as stack:
        workers.start("model", "--model", "oracle")
        wait_until(lambda: client.get("/health/status").json()["accepting_requests"])
        talkers = [stack.enter_context(live(client)) for _ in numbers]
        for talker in talkers:
            assert talker.start(config={"lang_code": "en"})["type"] == "session_started"
        for at in range(0, len(speech[0]), 6_400):
            for talker, its in zip(talkers, speech, strict=True):
                talker.send(its[at : at + 6_400])
        found = []
        for talker in talkers:
            talker.send({"type": "end_session"})
            messages, _ = talker.read_all()
            found.append([final["text"] for final in of("final_transcript", messages)])

    assert found == [[texts(*each)] for each in numbers]
