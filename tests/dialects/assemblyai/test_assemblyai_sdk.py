"""AssemblyAI's own SDK against a running platform: only the base URL and the key are changed."""

import asyncio
import io
import json
import wave
from collections.abc import Iterator
from typing import Any

import assemblyai as aai
import httpx
import numpy as np
import pytest
from assemblyai.streaming.v3 import (
    RealTimeEvents,
    RealTimeParameters,
    RealTimeTranscriber,
    RealTimeTranscriberOptions,
    TurnEvent,
)

from harness.faults.submitters import Work
from harness.peers.file_server import FileServer, serving_files
from harness.peers.receivers import Received, Receiver, receiving
from harness.programs.workers import wait_until
from harness.servers import patient
from shared.speech.audio.rate import SAMPLE_RATE
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import ALL_SCOPES, Scope
from shared.store.accounts.tenants import create_tenant
from worker.engines.oracle import encode, word_text

NUMBERS = tuple(range(6000, 6012))
WORK = Work(NUMBERS)

TOLD = {"webhook_url": "https://a.example/x"}
HEADER = {"webhook_auth_header_name": "X-Token", "webhook_auth_header_value": "a secret"}


@pytest.fixture(scope="module")
def settings(platform: Any) -> Iterator[aai.Settings]:
    changed = {"base_url": platform.url, "api_key": platform.key, "polling_interval": 0.2}
    before = {name: getattr(aai.settings, name) for name in changed}
    for name, value in changed.items():
        setattr(aai.settings, name, value)
    yield aai.settings
    for name, value in before.items():
        setattr(aai.settings, name, value)


@pytest.fixture(scope="module")
def transcript(settings: aai.Settings, tmp_path_factory: pytest.TempPathFactory) -> aai.Transcript:
    path = tmp_path_factory.mktemp("audio") / "local_file.wav"
    path.write_bytes(WORK.file())
    return aai.Transcriber().transcribe(str(path))


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with serving_files("127.0.0.1") as server:
        yield server


def spoken(native: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [
        (word["text"], round(word["start"] * 1000), round(word["end"] * 1000))
        for segment in native["segments"]
        for word in segment["words"]
    ]


def told(words: Any) -> list[tuple[str, int, int]]:
    return [(word.text, word.start, word.end) for word in words]


def native(platform: Any, transcript: Any) -> dict[str, Any]:
    return dict(platform.native.get(f"/jobs/{transcript.id}/transcript").json())


def test_the_quick_start_for_a_file_prints_the_text(
    platform: Any, transcript: aai.Transcript
) -> None:
    assert transcript.status == aai.TranscriptStatus.completed, transcript.error
    assert transcript.text == WORK.recording.text
    same = native(platform, transcript)
    assert transcript.text == same["text"]
    assert told(transcript.words) == spoken(same)
    assert transcript.audio_duration == round(same["duration_s"])
    assert transcript.audio_url.startswith("https://upload.longhand.invalid/")


def test_the_asynchronous_client_gets_the_same(
    settings: aai.Settings, transcript: aai.Transcript
) -> None:
    async def transcribe() -> Any:
        async with aai.AsyncTranscriber() as transcriber:
            return await transcriber.transcribe(io.BytesIO(WORK.file()))

    found = asyncio.run(transcribe())
    assert found.text == transcript.text
    assert told(found.words) == told(transcript.words or [])


def test_the_quick_start_for_a_url_prints_the_text(
    settings: aai.Settings, files: FileServer
) -> None:
    work = Work(tuple(range(6100, 6108)))
    url = files.put("/speech.wav", work.file())
    config = aai.TranscriptionConfig(speech_models=["universal-3-pro", "universal-2"])
    found = aai.Transcriber(config=config).transcribe(url)
    assert found.text == work.recording.text
    assert found.audio_url == url


def test_subtitles_sentences_and_paragraphs_tell_the_same_words(transcript: aai.Transcript) -> None:
    for parts in (transcript.get_sentences(), transcript.get_paragraphs()):
        assert told(word for part in parts for word in part.words) == told(transcript.words or [])
        assert " ".join(part.text for part in parts) == transcript.text
    assert transcript.export_subtitles_srt().startswith("1\n00:00:")
    assert transcript.export_subtitles_vtt().startswith("WEBVTT\n")
    captions = transcript.export_subtitles_srt(chars_per_caption=20).strip().split("\n\n")
    lines = [caption.splitlines()[2:] for caption in captions]
    assert all(len(each) == 1 and len(each[0]) <= 20 for each in lines)
    assert " ".join(each[0] for each in lines) == transcript.text


def test_channels_are_told_apart_by_words_and_utterances(settings: aai.Settings) -> None:
    left, _ = encode((6201, 6202, 6203), gap_s=0.15)
    right, _ = encode((6301, 6302), gap_s=0.15)
    samples = np.zeros((len(right) + SAMPLE_RATE + len(left), 2))
    samples[: len(right), 1] = right
    samples[len(right) + SAMPLE_RATE :, 0] = left
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 20_000).astype("<i2").tobytes())
    buffer.seek(0)
    config = aai.TranscriptionConfig(multichannel=True, speaker_labels=True)
    found = aai.Transcriber().transcribe(buffer, config)
    utterances = found.utterances or []
    said = [" ".join(map(word_text, each)) for each in ((6301, 6302), (6201, 6202, 6203))]
    assert [(each.speaker, each.text) for each in utterances] == [("2", said[0]), ("1", said[1])]
    assert told(word for each in utterances for word in each.words) == told(found.words)
    assert (found.json_response or {})["audio_channels"] == 2
    assert (found.json_response or {})["speaker_labels"] is True


def test_words_and_phrases_are_found(transcript: aai.Transcript) -> None:
    words = transcript.words or []
    one, two = words[2].text, words[3].text
    phrase = f"{one.upper()} {two}"
    first, both = transcript.word_search([one, phrase, "nowhere"])
    assert (first.text, first.indexes) == (one, [2])
    assert first.timestamps == [(words[2].start, words[2].end)]
    assert (both.text, both.timestamps) == (phrase, [(words[2].start, words[3].end)])


def test_the_list_is_paged_both_ways(settings: aai.Settings, transcript: aai.Transcript) -> None:
    transcriber = aai.Transcriber()
    others = [transcriber.transcribe(io.BytesIO(WORK.file())) for _ in range(2)]
    ids = [str(each.id) for each in (transcript, *others)]
    newest = transcriber.list_transcripts(aai.ListTranscriptParameters(limit=1))
    assert [each.id for each in newest.transcripts] == [ids[2]]
    assert newest.page_details.next_url is None
    before = newest.page_details.before_id_of_prev_url
    older = transcriber.list_transcripts(aai.ListTranscriptParameters(limit=1, before_id=before))
    assert [each.id for each in older.transcripts] == [ids[1]]
    newer = transcriber.list_transcripts(aai.ListTranscriptParameters(after_id=ids[1]))
    assert [each.id for each in newer.transcripts] == [ids[2]]
    completed = aai.ListTranscriptParameters(status=aai.TranscriptStatus.completed, limit=200)
    assert {*ids} <= {each.id for each in transcriber.list_transcripts(completed).transcripts}
    elsewhen = aai.ListTranscriptParameters(created_on="2001-01-01")
    assert transcriber.list_transcripts(elsewhen).page_details.result_count == 0

    deleted = aai.Transcript.delete_by_id(ids[1])
    assert (deleted.id, deleted.text) == (ids[1], None)
    with pytest.raises(aai.TranscriptError, match="no job"):
        aai.Transcript.get_by_id(ids[1])
    past = aai.ListTranscriptParameters(limit=200, before_id=ids[1])
    found = [each.id for each in transcriber.list_transcripts(past).transcripts]
    assert transcript.id in found
    assert ids[2] not in found


def test_a_job_that_fails_is_a_transcript_with_an_error(settings: aai.Settings) -> None:
    failed = aai.Transcriber().transcribe(io.BytesIO(b"this is no audio"))
    assert failed.status == aai.TranscriptStatus.error
    assert failed.error
    assert failed.text is None
    with pytest.raises(aai.TranscriptError) as unready:
        failed.export_subtitles_srt()
    assert unready.value.status_code == 400


@pytest.fixture(scope="module")
def receiver(platform: Any) -> Iterator[Receiver]:
    platform.workers.start("deliver")
    with receiving() as started:
        yield started


@pytest.mark.parametrize(
    ("file", "status"), [(WORK.file(), "completed"), (b"this is no audio", "error")], ids=str
)
def test_a_webhook_is_told_of_the_status_with_its_header(
    platform: Any, settings: aai.Settings, receiver: Receiver, file: bytes, status: str
) -> None:
    config = aai.TranscriptionConfig().set_webhook(receiver.url, "X-Token", "a secret")
    submitted = aai.Transcriber().submit(io.BytesIO(file), config)
    expected = {"transcript_id": submitted.id, "status": status}

    def told() -> list[Received]:
        return [each for each in receiver.requests if json.loads(each.body) == expected]

    wait_until(lambda: bool(told()))
    (only,) = told()
    assert (only.method, only.headers["x-token"]) == ("POST", "a secret")

    def found() -> dict[str, Any]:
        return dict(platform.native.get(f"/v2/transcript/{submitted.id}").json())

    wait_until(lambda: found()["webhook_status_code"] == 204)
    shown = found()
    assert shown["webhook_url"] == receiver.url
    assert (shown["webhook_auth"], shown["webhook_auth_header_name"]) == (True, "X-Token")
    listed = platform.native.get(f"/webhooks/deliveries?job_id={submitted.id}").text
    assert "a secret" not in listed + str(shown)


def test_another_tenant_has_neither_uploads_nor_transcripts(
    platform: Any, settings: aai.Settings, transcript: aai.Transcript
) -> None:
    url = aai.Transcriber().upload_file(io.BytesIO(WORK.file()))
    create_tenant(platform.database, "stranger", "stranger")
    _, key = create_key(platform.database, "stranger", "a stranger's", ALL_SCOPES)
    with pytest.raises(aai.TranscriptError, match="no upload") as refused:
        aai.Transcriber(api_key=key).submit(url)
    assert refused.value.status_code == 400
    with httpx.Client(base_url=platform.url, headers={"Authorization": key}) as stranger:
        path = f"/v2/transcript/{transcript.id}"
        inner = ("", "/srt", "/vtt", "/sentences", "/paragraphs", "/word-search?words=a")
        assert {stranger.get(path + each).status_code for each in inner} == {404}
        assert stranger.delete(path).status_code == 404
        assert stranger.get("/v2/transcript").json()["transcripts"] == []


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"speaker_labels": True}, "tells speakers apart"),
        ({"speaker_labels": True, "speakers_expected": 0}, "speakers_expected"),
        ({"speakers_expected": 2}, "speaker_labels"),
        ({"webhook_url": "ftp://a.example/x"}, "webhook_url: the URL must begin"),
        ({"webhook_auth_header_name": "X-Token"}, "webhook_auth_header_value"),
        ({**TOLD, "webhook_auth_header_name": "X-Token"}, "webhook_auth_header_value"),
        ({**TOLD, **HEADER, "webhook_auth_header_name": "Host"}, "webhook_auth_header_name"),
        ({**TOLD, **HEADER, "webhook_auth_header_name": "a b"}, "webhook_auth_header_name"),
        ({**TOLD, **HEADER, "webhook_auth_header_value": "a\r\nb"}, "webhook_auth_header_value"),
        (HEADER, "webhook_url"),
        ({"punctuate": False}, "punctuate"),
        ({"custom_spelling": [{"from": ["a"], "to": "b"}]}, "custom_spelling"),
        ({"nonsense": 1}, "nonsense"),
        ({"speech_model": "no-such"}, "no-such"),
        ({"language_code": "gibberish"}, "ISO 639"),
        ({"language_code": "en", "language_detection": True}, "language_detection"),
        ({"multichannel": "perhaps"}, "multichannel"),
        ({"audio_url": "https://upload.longhand.invalid/1"}, "upload"),
        ({"audio_url": "ftp://a.example/x"}, "URL"),
        ({"audio_url": None}, "audio_url"),
        ({"prompt": "a\0b"}, "NUL"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    platform: Any, asked: dict[str, Any], named: str
) -> None:
    body = {"audio_url": "https://a.example/x.wav", **asked}
    answer = platform.native.post("/v2/transcript", json=body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert named in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?limit=0", 400),
        ("?before_id=x", 400),
        ("?nonsense=1", 400),
        ("/0190a6b2-5c7e-7d3a-9f10-3b1d6a4c8e21", 404),
        ("/x", 404),
        ("/{id}/srt?chars_per_caption=3", 400),
        ("/{id}/word-search", 400),
    ],
)
def test_errors_have_one_member(
    platform: Any, transcript: aai.Transcript, path: str, status: int
) -> None:
    answer = platform.native.get(f"/v2/transcript{path.format(id=transcript.id)}")
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}


def test_strangers_and_empty_files_are_refused(platform: Any) -> None:
    url = f"{platform.url}/v2/upload"
    unknown = patient.post(url, content=b"x", headers={"Authorization": "lh_live_wrong"})
    assert unknown.status_code == 401
    _, key = create_key(platform.database, "default", "a reader's", {Scope.JOBS_READ})
    reader = patient.post(url, content=b"x", headers={"Authorization": key})
    assert reader.status_code == 403
    empty = platform.native.post("/v2/upload", content=b"")
    assert empty.status_code == 400
    form = platform.native.post("/v2/upload", files={"file": b"x"})
    assert form.status_code == 400
    assert all({*each.json()} == {"error"} for each in (unknown, reader, empty, form))


def test_a_live_session_is_heard_by_the_worker_that_does_the_jobs(
    platform: Any, transcript: aai.Transcript
) -> None:
    turns: list[TurnEvent] = []
    options = RealTimeTranscriberOptions(
        api_host=platform.url.replace("http", "ws", 1), api_key=platform.key, connect_timeout=60
    )
    client = RealTimeTranscriber(options)
    client.on(RealTimeEvents.Turn, lambda _, turn: turns.append(turn))
    client.connect(RealTimeParameters(encoding="aac", speech_model="universal-3-5-pro"))
    client.stream(io.BytesIO(WORK.file()))
    client.disconnect(terminate=True)

    said = [turn for turn in turns if turn.end_of_turn]
    assert " ".join(turn.transcript for turn in said) == transcript.text
    starts = [word.start for turn in said for word in turn.words]
    assert starts == pytest.approx([word.start for word in transcript.words], abs=40)
