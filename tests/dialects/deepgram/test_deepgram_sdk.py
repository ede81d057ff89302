"""Deepgram's own SDK against a running platform: only the environment and the key are changed."""

import asyncio
import io
import json
import threading
import wave
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.errors import BadRequestError
from deepgram.listen.v1.types import ListenV1Results
from deepgram.types.listen_v1accepted_response import ListenV1AcceptedResponse
from deepgram.types.listen_v1response import ListenV1Response

from api.dialects.deepgram import routes
from harness.faults.submitters import Work
from harness.peers.file_server import FileServer, serving_files
from harness.peers.receivers import Received, Receiver, receiving
from harness.programs.workers import wait_until
from harness.servers import patient
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store.accounts.keys import list_keys
from worker.engines.oracle import encode, word_text

WORK = Work(tuple(range(5000, 5012)))


def environment(url: str) -> DeepgramClientEnvironment:
    socket_url = url.replace("http", "ws", 1)
    return DeepgramClientEnvironment(
        base=url, production=socket_url, agent=socket_url, agent_rest=url
    )


@pytest.fixture(scope="module")
def client(platform: Any) -> DeepgramClient:
    return DeepgramClient(api_key=platform.key, environment=environment(platform.url))


def checked(answer: Any) -> ListenV1Response:
    """Return an answer as pydantic itself reads it; the SDK checks nothing."""
    return ListenV1Response.model_validate_json(answer.model_dump_json(exclude_unset=True))


def native(platform: Any, answer: ListenV1Response) -> dict[str, Any]:
    found = platform.native.get(f"/jobs/{answer.metadata.request_id}/transcript")
    assert found.status_code == 200
    return dict(found.json())


def test_the_quick_start_for_a_file_prints_the_text(platform: Any, client: DeepgramClient) -> None:
    response = client.listen.v1.media.transcribe_file(
        request=WORK.file(), model="nova-3", smart_format=True
    )
    answer = checked(response)
    (channel,) = answer.results.channels
    (alternative,) = channel.alternatives or []
    assert alternative.transcript == WORK.recording.text

    same = native(platform, answer)
    assert alternative.transcript == same["text"]
    assert [(word.word, word.start, word.end) for word in alternative.words or []] == [
        (word["text"].lower(), word["start"], word["end"])
        for segment in same["segments"]
        for word in segment["words"]
    ]
    assert answer.metadata.duration == same["duration_s"]
    assert answer.metadata.channels == 1
    assert len(answer.metadata.sha256) == 64


def test_the_asynchronous_client_gets_the_same(platform: Any, client: DeepgramClient) -> None:
    async def transcribe() -> Any:
        other = AsyncDeepgramClient(api_key=platform.key, environment=environment(platform.url))
        return await other.listen.v1.media.transcribe_file(request=WORK.file(), model="nova-3")

    answer = checked(asyncio.run(transcribe()))
    expected = checked(client.listen.v1.media.transcribe_file(request=WORK.file()))
    assert answer.results == expected.results


def test_the_quick_start_for_a_url_prints_the_text(
    platform: Any, client: DeepgramClient, files: FileServer
) -> None:
    url = files.put("/speech.wav", Work(tuple(range(5100, 5108))).file())
    response = client.listen.v1.media.transcribe_url(url=url, model="nova-3", tag=["a", "b"])
    answer = checked(response)
    (alternative,) = answer.results.channels[0].alternatives or []
    assert alternative.transcript == Work(tuple(range(5100, 5108))).recording.text
    assert answer.metadata.tags == ["a", "b"]
    job = platform.native.get(f"/jobs/{answer.metadata.request_id}").json()
    assert job["metadata"] == {"tags": ["a", "b"]}


@pytest.fixture(scope="module")
def files() -> Any:
    with serving_files("127.0.0.1") as server:
        yield server


def stereo() -> bytes:
    """Return words 1 to 4 on the left, a second apart, and 11 to 13 on the right."""
    left, _ = encode((5201, 5202, 5203, 5204), gap_s=0.15)
    right, _ = encode((5301, 5302, 5303), gap_s=0.15)
    samples = np.zeros((SAMPLE_RATE + len(left), 2))
    samples[SAMPLE_RATE:, 0] = left
    samples[: len(right), 1] = right
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 20_000).astype("<i2").tobytes())
    return buffer.getvalue()


def test_channels_utterances_and_paragraphs_tell_the_same_words(client: DeepgramClient) -> None:
    response = client.listen.v1.media.transcribe_file(
        request=stereo(),
        multichannel=True,
        diarize=True,
        utterances=True,
        paragraphs=True,
        utt_split=0.5,
    )
    answer = checked(response)
    left, right = answer.results.channels
    said = [
        " ".join(map(word_text, numbers))
        for numbers in ((5201, 5202, 5203, 5204), (5301, 5302, 5303))
    ]
    for number, (channel, text) in enumerate(zip((left, right), said, strict=True)):
        (alternative,) = channel.alternatives or []
        assert alternative.transcript == text
        assert alternative.paragraphs is not None
        assert alternative.paragraphs.transcript == f"Speaker {number}: {text}"
        (paragraph,) = alternative.paragraphs.paragraphs or []
        assert paragraph.speaker == number
        assert {word.speaker for word in alternative.words or []} == {number}
        assert paragraph.num_words == len(text.split())
    utterances = answer.results.utterances or []
    assert [(each.channel, each.transcript) for each in utterances] == [(1, said[1]), (0, said[0])]
    assert all(UUID(each.id) for each in utterances)
    assert utterances[0].words
    assert [each.speaker for each in utterances] == [1, 0]
    assert answer.metadata.channels == 2


def test_words_are_replaced_where_a_request_says_so(client: DeepgramClient) -> None:
    heard = WORK.recording.text.split()
    response = client.listen.v1.media.transcribe_file(
        request=WORK.file(), replace=[f"{heard[0]}:long hand", heard[1]]
    )
    (alternative,) = checked(response).results.channels[0].alternatives or []
    assert (alternative.transcript or "").split() == ["long", "hand", *heard[2:]]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"diarize": "true"}, "tells speakers apart"),
        ({"diarize_model": "v2"}, "diarize_model"),
        ({"callback": "ftp://a.example/x"}, "callback: the URL must begin"),
        ({"callback": "https://10.0.0.1/x"}, "callback: the URL names an address"),
        ({"callback": "https://a.example/x", "callback_method": "GET"}, "callback_method"),
        ({"callback_method": "PUT"}, "callback_method"),
        ({"profanity_filter": "true"}, "profanity_filter"),
        ({"punctuate": "perhaps"}, "punctuate"),
        ({"utt_split": "-1"}, "utt_split"),
        ({"nonsense": "1"}, "nonsense"),
        ({"model": "no-such"}, "no-such"),
        ({"language": "gibberish"}, "ISO 639"),
        ({"keywords": "word:-2"}, "keywords"),
        ({"model": ["nova", "nova"]}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    platform: Any, query: dict[str, Any], named: str
) -> None:
    answer = platform.native.post(
        "/v1/listen", params=query, content=WORK.file(), headers={"Content-Type": "audio/wav"}
    )
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert set(body) == {"err_code", "err_msg", "request_id"}
    assert named in body["err_msg"]
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"this is no audio", "audio/wav"),
        (b"", "audio/wav"),
        (b'{"url": 7}', "application/json"),
        (b'{"url": "ftp://a.example/x"}', "application/json"),
        (b"{", "application/json"),
        (b"x", "multipart/form-data; boundary=x"),
    ],
)
def test_what_is_no_file_is_refused(platform: Any, content: bytes, media_type: str) -> None:
    answer = platform.native.post(
        "/v1/listen", content=content, headers={"Content-Type": media_type}
    )
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"err_code", "err_msg", "request_id"}


def test_the_sdk_raises_its_own_errors(platform: Any, client: DeepgramClient) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.listen.v1.media.transcribe_file(request=b"this is no audio")
    assert refused.value.body["err_code"] == "Bad Request"

    stranger = DeepgramClient(api_key="lh_live_wrong", environment=environment(platform.url))
    with pytest.raises(ApiError) as unknown:
        stranger.listen.v1.media.transcribe_file(request=WORK.file())
    assert unknown.value.status_code == 401
    assert unknown.value.body["err_code"] == "INVALID_AUTH"


def jobs(platform: Any) -> list[dict[str, Any]]:
    return list(platform.native.get("/jobs").json()["jobs"])


def test_the_sdk_s_own_retry_finds_a_job_that_takes_longer(
    platform: Any, client: DeepgramClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "WAIT_S", 0.0)
    work = Work(tuple(range(5400, 5420)))
    known = {job["id"] for job in jobs(platform)}

    answer = checked(client.listen.v1.media.transcribe_file(request=work.file()))

    (alternative,) = answer.results.channels[0].alternatives or []
    assert alternative.transcript == work.recording.text
    new = [job for job in jobs(platform) if job["id"] not in known]
    assert [job["cached"] for job in new].count(False) == 1


@pytest.fixture(scope="module")
def receiver(platform: Any) -> Iterator[Receiver]:
    platform.workers.start("deliver")
    with receiving() as started:
        yield started


def called_back(receiver: Receiver, request_id: str) -> Received:
    def found() -> list[Received]:
        return [each for each in receiver.requests if request_id.encode() in each.body]

    wait_until(lambda: bool(found()))
    (only,) = found()
    return only


def test_a_callback_gets_what_would_have_been_the_answer(
    platform: Any, client: DeepgramClient, receiver: Receiver
) -> None:
    asked: dict[str, Any] = {"smart_format": True, "utterances": True, "tag": ["a"]}
    accepted = client.listen.v1.media.transcribe_file(
        request=WORK.file(),
        callback=receiver.url.replace("//", "//user:pass%20word@"),
        callback_method="PUT",
        **asked,
    )
    assert isinstance(accepted, ListenV1AcceptedResponse)
    assert isinstance(accepted.request_id, str)
    told = called_back(receiver, accepted.request_id)

    answer = ListenV1Response.model_validate_json(told.body)
    expected = checked(client.listen.v1.media.transcribe_file(request=WORK.file(), **asked))
    assert answer.metadata.request_id == accepted.request_id
    assert answer.metadata.tags == ["a"]
    assert answer.results.channels == expected.results.channels
    (key,) = (key for key in list_keys(platform.database) if key.name == "a vendor's client")
    assert (told.method, told.headers["dg-token"]) == ("PUT", str(key.id))
    login = b64decode(told.headers["authorization"].removeprefix("Basic "))
    assert login == b"user:pass word"
    shown = platform.native.get(f"/webhooks/deliveries?job_id={accepted.request_id}").json()
    (delivery,) = shown["deliveries"]
    assert (delivery["url"], delivery["face"]) == (receiver.url, "deepgram")
    assert "pass" not in str(shown)


def test_a_callback_gets_the_error_of_a_file_that_is_no_audio(
    client: DeepgramClient, receiver: Receiver
) -> None:
    request = b"this is no audio, for a callback"
    accepted: Any = client.listen.v1.media.transcribe_file(request=request, callback=receiver.url)
    told = called_back(receiver, accepted.request_id)
    with pytest.raises(BadRequestError) as refused:
        client.listen.v1.media.transcribe_file(request=request)
    assert told.method == "POST"
    error = json.loads(told.body)
    assert error == {**refused.value.body, "request_id": accepted.request_id}


def test_a_request_that_is_sent_again_calls_back_once(platform: Any, receiver: Receiver) -> None:
    headers = {"Idempotency-Key": "called-back", "Content-Type": "audio/wav"}
    query = {"callback": f"{receiver.url}?once"}
    sent = {"content": WORK.file(), "headers": headers}
    first, again = (platform.native.post("/v1/listen", params=query, **sent) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json() == again.json()
    other = {"callback": f"{receiver.url}?other"}
    refused = platform.native.post("/v1/listen", params=other, **sent)
    assert (refused.status_code, "another request" in refused.text) == (400, True)


def test_errors_of_other_routes_below_v1_are_not_deepgram_s(platform: Any) -> None:
    answer = patient.get(f"{platform.url}/v1/models/no-such", headers={"X-API-Key": platform.key})
    assert set(answer.json()) == {"error"}


def test_a_live_session_is_heard_by_the_worker_that_does_the_jobs(client: DeepgramClient) -> None:
    heard: list[Any] = []
    with client.listen.v1.connect(model="nova-3", smart_format=True) as connection:
        connection.on(EventType.MESSAGE, heard.append)
        listener = threading.Thread(target=connection.start_listening)
        listener.start()
        connection.send_media(WORK.file())
        connection.send_close_stream()
        listener.join(60)

    file = checked(client.listen.v1.media.transcribe_file(request=WORK.file(), smart_format=True))
    (of_file,) = file.results.channels[0].alternatives or []
    results = [each for each in heard if isinstance(each, ListenV1Results)]
    said = [each.channel.alternatives[0] for each in results]
    assert " ".join(each.transcript for each in said) == of_file.transcript
    starts = [word.start for each in said for word in each.words]
    assert starts == pytest.approx([word.start for word in of_file.words or []], abs=0.04)
