"""WebM with Opus, as browsers record it: decoded beside the API, at no other session's cost."""

import asyncio
import os
import signal
import wave
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from api.live.decoders import Decoder, Decoders
from bench.audio import wav_of
from harness.live.audio import companded, say, silence, texts
from harness.live.clients import LiveClient, live, of
from harness.live.hearers import ToneHearer
from harness.media.webm import encode_webm, slices
from harness.pages.browser import CHROMIUM, chromium
from harness.programs.workers import wait_until

START = {"lang_code": "en", "encoding": "webm_opus"}
SPOKEN = silence(0.5) + say(1, 2, 3, 4) + silence(0.8) + say(5, 6) + silence(0.3)
CLUSTER = b"\x1f\x43\xb6\x75"
DURATION_S = len(SPOKEN) / 32_000
NOISE = np.random.default_rng(1).bytes(50_000)

RECORD = """
(async () => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws/stt");
  window.told = [];
  socket.onmessage = ({ data }) => told.push(JSON.parse(data));
  await new Promise((resolve) => { socket.onopen = resolve; });
  const config = { lang_code: "en", encoding: "webm_opus" };
  socket.send(JSON.stringify({ type: "start_session", config }));
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  window.recorder = new MediaRecorder(stream, { mimeType: "audio/webm;codecs=opus" });
  recorder.ondataavailable = ({ data }) => socket.send(data);
  recorder.onstop = () => socket.send('{"type": "end_session"}');
  recorder.start(100);
})()
"""


def stream(talker: LiveClient, pcm: bytes = SPOKEN, **options: Any) -> None:
    for piece in slices(encode_webm(pcm, **options), len(pcm) / 32_000):
        talker.send(piece)


def children(pid: int) -> list[int]:
    """Return the decoders that have a stream; others wait for one, and have no limit of time."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found if bounded(int(each))]


def parent() -> int:
    """Return the server of decoders of which one has a stream; 0: there is none.

    It is this one's child, as the API runs here, and so may be servers of other tests.
    """
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread or a child has ended
            for pid in map(int, (task / "children").read_text().split()):
                program = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"worker.media.sandbox.server" in program and children(pid):
                    return pid
    return 0


@pytest.fixture
def decoding(client: httpx.Client) -> Iterator[int]:
    """Have the process that forks decoders started."""
    with live(client) as talker:
        talker.start(config=START)
        pid = wait_until(parent)
        wait_until(lambda: len(children(pid)) == 1)
        yield pid


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_what_a_browser_records_is_heard(client: httpx.Client, tmp_path: Path) -> None:
    microphone = tmp_path / "microphone.wav"
    with wave.open(str(microphone), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        # What it plays before the recorder starts is lost.
        file.writeframes(silence(4.0) + say(1, 2, 3) + silence(1.0) + say(4, 5, 6) + silence(1.0))
    with chromium(microphone, again=True) as page:
        page.open(str(client.base_url.join("/live")))
        page.value(RECORD)
        finals = "told.filter(({ type }) => type === 'final_transcript').map(({ text }) => text)"
        wanted = f"{texts(1, 2, 3)}|{texts(4, 5, 6)}"
        wait_until(lambda: wanted in "|".join(page.value(finals)))
        page.value("recorder.stop()")
        wait_until(lambda: page.value("told.at(-1).type") == "session_ended")

        assert page.value("told.at(-1).reason") == "completed"


@pytest.mark.parametrize("channels", [1, 2])
def test_webm_in_slices_is_heard_as_pcm_is(client: httpx.Client, channels: int) -> None:
    with live(client) as talker:
        talker.start(config=START)
        stream(talker, channels=channels)
        talker.send({"type": "end_session"})
        messages, code = talker.read_all()

    finals = of("final_transcript", messages)
    assert [final["text"] for final in finals] == [texts(1, 2, 3, 4), texts(5, 6)]
    assert finals[0]["words"][0]["start"] == pytest.approx(0.5, abs=0.03)
    assert of("error", messages) == []
    assert messages[-1]["total_audio_ms"] == pytest.approx(1000 * DURATION_S, abs=40)
    assert code == 1000


@pytest.mark.parametrize(
    ("container", "encoder"),
    [("ogg", "libopus"), ("flac", "flac"), ("mp3", "libmp3lame"), ("adts", "aac")],
)
def test_the_format_of_a_container_is_found_out(
    client: httpx.Client, container: str, encoder: str
) -> None:
    with live(client) as talker:
        talker.start(config={"lang_code": "en", "encoding": "container"})
        stream(talker, container=container, encoder=encoder)
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    finals = of("final_transcript", messages)
    assert [final["text"] for final in finals] == [texts(1, 2, 3, 4), texts(5, 6)]
    assert finals[0]["words"][0]["start"] == pytest.approx(0.5, abs=0.06)


def test_a_wav_is_heard_while_it_comes_in(client: httpx.Client) -> None:
    head = wav_of(np.frombuffer(SPOKEN, "<i2")).read()[:44]
    with live(client) as talker:
        talker.start(config={"lang_code": "en", "encoding": "container"})
        talker.send(head)
        talker.stream(SPOKEN[:40_000])  # FFmpeg's own demuxer would wait for 64 KiB
        (started,) = of("vad_event", talker.read_until("vad_event"))
        talker.stream(SPOKEN[40_000:])
        talker.send({"type": "end_session"})
        messages, code = talker.read_all()

    assert started["t_ms"] == pytest.approx(500, abs=64)
    finals = of("final_transcript", messages)
    assert [final["text"] for final in finals] == [texts(1, 2, 3, 4), texts(5, 6)]
    assert messages[-1]["total_audio_ms"] == pytest.approx(1000 * DURATION_S)
    assert code == 1000


def test_a_container_that_is_none_ends_the_session_after_128_kib(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config={"encoding": "container"})
        talker.send(b"this is no audio" * 8_192 + b".")
        messages, code = talker.read_all()

    assert [message["code"] for message in of("error", messages)] == ["INVALID_MESSAGE"]
    assert code == 1007


@pytest.mark.parametrize(("encoding", "rate"), [("pcm_mulaw", 8_000), ("pcm_alaw", 8_000)])
def test_what_telephones_send_is_heard(client: httpx.Client, encoding: str, rate: int) -> None:
    config = {"lang_code": "en", "encoding": encoding, "sample_rate": rate}
    with live(client) as talker:
        talker.start(config=config)
        talker.send(companded(SPOKEN, "mulaw" if encoding == "pcm_mulaw" else "alaw"))
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    finals = of("final_transcript", messages)
    assert [final["text"] for final in finals] == [texts(1, 2, 3, 4), texts(5, 6)]


def test_a_session_without_any_audio_is_completed(client: httpx.Client) -> None:
    with live(client) as talker:
        talker.start(config=START)
        talker.send({"type": "end_session"})
        messages, code = talker.read_all()

    assert [(message["type"], message["reason"]) for message in messages] == [
        ("session_ended", "completed")
    ]
    assert code == 1000


def test_a_recorder_may_be_stopped_and_another_started(client: httpx.Client) -> None:
    sentence = silence(0.3) + say(1, 2) + silence(0.8)
    with live(client) as talker:
        talker.start(config=START)
        stream(talker, sentence)
        stream(talker, sentence)
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    assert [final["text"] for final in of("final_transcript", messages)] == [texts(1, 2)] * 2


def test_a_flush_hears_all_that_came_before_it(client: httpx.Client) -> None:
    data = encode_webm(silence(0.3) + say(5, 6) + silence(0.2))
    with live(client) as talker:
        talker.start(config=START)
        talker.send(data)
        talker.send({"type": "flush"})
        final = talker.read_until("final_transcript")[-1]

    assert (final["text"], final["reason"]) == (texts(5, 6), "flush")


def test_the_simple_protocol_takes_webm_too(client: httpx.Client) -> None:
    with live(client, "/ws/transcribe") as talker:
        talker.send({"type": "config", "encoding": "webm_opus"})
        stream(talker)
        talker.send({"type": "config", "encoding": "pcm_s16le"})
        talker.send({"type": "end"})
        messages, code = talker.read_all()

    (error,) = of("error", messages)
    assert error["message"] == "'encoding' after audio."
    assert messages[-1]["text"] == texts(1, 2, 3, 4, 5, 6)
    assert code == 1000


@pytest.mark.parametrize(
    "data",
    [b"\0" * 1_000_000, b"RIFF" + NOISE, b"\x1a\x45\xdf\xa3" + NOISE],
    ids=["zeros", "noise", "noise behind a magic number"],
)
def test_garbage_is_an_invalid_message_and_ends_the_session(
    client: httpx.Client, decoding: int, data: bytes
) -> None:
    with live(client) as talker:
        talker.start(config=START)
        with suppress(ConnectionClosed):  # the server need not wait for all of it
            for start in range(0, len(data), 100_000):
                talker.send(data[start : start + 100_000])
            talker.send({"type": "end_session"})
        messages, code = talker.read_all()

    assert [message.get("code") for message in messages] == ["INVALID_MESSAGE", None]
    assert messages[-1]["reason"] == "error"
    assert code == 1007
    wait_until(lambda: len(children(decoding)) == 1)


@pytest.mark.parametrize("codec", ["vorbis", "unknown"])
def test_another_codec_than_opus_is_an_invalid_message(client: httpx.Client, codec: str) -> None:
    if codec == "vorbis":
        data = encode_webm(SPOKEN, encoder="vorbis", channels=2)
    else:
        data = encode_webm(SPOKEN).replace(b"A_OPUS", b"A_XXXX")
    with live(client) as talker:
        talker.start(config=START)
        with suppress(ConnectionClosed):
            talker.send(data)
            talker.send({"type": "end_session"})
        messages, code = talker.read_all()

    assert [error["code"] for error in of("error", messages)] == ["INVALID_MESSAGE"]
    assert "Opus" in of("error", messages)[0]["message"]
    assert code == 1007


def test_a_stream_without_audio_is_given_up(client: httpx.Client) -> None:
    head, _, _ = encode_webm(SPOKEN).partition(CLUSTER)
    void = b"\xec" + (1 << 56 | 200_000).to_bytes(8) + bytes(200_000)
    with live(client) as talker:
        talker.start(config=START)
        with suppress(ConnectionClosed):
            talker.send(head)
            for _ in range(8):
                talker.send(void)
        messages, code = talker.read_all()

    assert [error["code"] for error in of("error", messages)] == ["INVALID_MESSAGE"]
    assert code == 1007


def test_a_killed_decoder_ends_its_session_with_what_was_heard_and_no_other(
    client: httpx.Client, decoding: int
) -> None:
    with live(client) as unlucky, live(client) as lucky:
        before = set(children(decoding))
        unlucky.start(config=START)
        (victim,) = wait_until(lambda: set(children(decoding)) - before)
        lucky.start(config=START)
        stream(unlucky)
        stream(lucky)
        heard = unlucky.read_until("final_transcript")[-1]
        os.kill(victim, signal.SIGKILL)
        messages, code = unlucky.read_all()
        lucky.send({"type": "end_session"})
        others, _ = lucky.read_all()

    assert heard["text"] == texts(1, 2, 3, 4)
    assert [error["code"] for error in of("error", messages)] == ["INTERNAL_ERROR"]
    assert messages[-1]["type"] == "session_ended"
    assert code == 1011
    assert [final["text"] for final in of("final_transcript", others)] == [
        texts(1, 2, 3, 4),
        texts(5, 6),
    ]


def test_the_process_that_forks_decoders_is_started_anew(
    client: httpx.Client, decoding: int
) -> None:
    os.kill(decoding, signal.SIGKILL)
    with live(client) as talker:
        talker.start(config=START)
        stream(talker)
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    assert of("error", messages) == []
    assert messages[-1]["total_segments"] == 2


def test_sessions_beside_each_other_have_their_own_words(client: httpx.Client) -> None:
    wanted = [texts(number, number + 1) for number in range(4)]
    with ExitStack() as stack:
        talkers = [stack.enter_context(live(client)) for _ in wanted]
        for talker in talkers:
            talker.start(config=START)
        pieces = [
            slices(encode_webm(silence(0.3) + say(number, number + 1) + silence(0.3)), 0.9)
            for number in range(4)
        ]
        for at in range(max(map(len, pieces))):
            for talker, its in zip(talkers, pieces, strict=True):
                talker.send(its[at] if at < len(its) else b"")
        found = []
        for talker in talkers:
            talker.send({"type": "end_session"})
            messages, _ = talker.read_all()
            found.append(" ".join(final["text"] for final in of("final_transcript", messages)))

    assert found == wanted


def test_a_decoder_has_bounded_memory_and_time(client: httpx.Client, decoding: int) -> None:
    (decoder,) = children(decoding)
    limits = {
        line[:26].strip(): line[26:].split()[0]
        for line in wait_until(lambda: bounded(decoder)).splitlines()
    }

    assert limits["Max data size"] == str(128 << 20)
    assert limits["Max cpu time"] == "10"
    environment = Path(f"/proc/{decoding}/environ").read_bytes().split(b"\0")
    assert {each.partition(b"=")[0] for each in environment if each} == {
        *(b"PYTHONPATH", b"OPENBLAS_NUM_THREADS")
    }


def bounded(pid: int) -> str:
    """Return a process's limits once it has set them."""
    try:
        limits = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return ""
    return "" if "Max cpu time              unlimited " in limits else limits


def test_a_client_that_leaves_takes_its_decoder_along(client: httpx.Client, decoding: int) -> None:
    with live(client) as talker:
        talker.start(config=START)
        talker.send(encode_webm(SPOKEN)[:2_000])
        wait_until(lambda: len(children(decoding)) == 2)

    wait_until(lambda: len(children(decoding)) == 1)


def test_nothing_is_lost_while_the_workers_are_behind(
    client: httpx.Client, hearer: ToneHearer, decoding: int
) -> None:
    hearer.silent = True
    sentence = say(1, 2, 3) + silence(0.7)
    n = 40
    with live(client) as talker:
        talker.start(config=START)
        stream(talker, silence(0.3) + sentence * n)
        # More than 5 s of them wait, beyond the first.
        wait_until(lambda: len(hearer.finals) >= 5)
        hearer.silent = False
        talker.send({"type": "end_session"})
        messages, _ = talker.read_all()

    assert [final["text"] for final in of("final_transcript", messages)] == [texts(1, 2, 3)] * n


def test_no_more_is_decoded_than_the_workers_can_follow(
    client: httpx.Client, hearer: ToneHearer, decoding: int
) -> None:
    """A second session with the same audio shows how long the first would have had for it."""
    hearer.deaf_to = "pt"
    speech = silence(0.3) + (say(1, 2, 3) + silence(0.7)) * 20
    with live(client) as stuck, live(client) as talker:
        for each, language in (stuck, "pt"), (talker, "en"):
            each.start(config={**START, "lang_code": language})
            stream(each, speech)
            each.send({"type": "end_session"})
        messages, _ = talker.read_all()
        n_asked = sum(request.language == "pt" for request in hearer.finals)
        hearer.deaf_to = None
        late, _ = stuck.read_all()

    assert n_asked <= 7  # of 1.2 s each, and the backlog is 5 s
    for found in messages, late:
        assert [final["text"] for final in of("final_transcript", found)] == [texts(1, 2, 3)] * 20


def test_a_stream_whose_audio_nobody_takes_is_not_read() -> None:
    webm = encode_webm(SPOKEN)

    async def feed_until_it_waits() -> int:
        decoders, n_fed = Decoders(), 0
        decoder = Decoder(decoders, any_format=False)
        try:
            while n_fed < 200:
                await asyncio.wait_for(decoder.feed(webm), 3)
                n_fed += 1
        except TimeoutError:
            return n_fed
        finally:
            await decoder.close()
            decoders.close()
        return n_fed

    assert asyncio.run(feed_until_it_waits()) < 100
