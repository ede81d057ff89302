"""OpenAI's own SDK, and a client built on it, against a running platform with keys on."""

import asyncio
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.audio import TranscriptionStreamEvent

from api.dialects.openai.tables import TRANSCRIPTION
from harness.engines.real_models import BECKETT, recording
from harness.faults.submitters import Work
from shared.store.accounts.keys import create_key
from shared.store.accounts.scopes import Scope

WORK = Work(tuple(range(3000, 3012)))
SAID = WORK.recording.text


@pytest.fixture(scope="module")
def client(platform: Any) -> Iterator[OpenAI]:
    """Its answers are validated; without that, the SDK takes anything."""
    with OpenAI(
        base_url=f"{platform.url}/v1",
        api_key=platform.key,
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest.fixture(scope="module")
def native(platform: Any) -> dict[str, Any]:
    """The same audio's job by our own API, with its words."""
    posted = platform.native.post("/jobs", files={"file": ("a.wav", WORK.file())}).json()
    job: dict[str, Any] = platform.native.get(
        f"/jobs/{posted['id']}", params={"wait": 60, "include": "words"}
    ).json()
    assert job["state"] == "succeeded", job
    return job


def speech() -> BytesIO:
    file = BytesIO(WORK.file())
    file.name = "speech.wav"
    return file


def test_the_quick_start_prints_the_text(client: OpenAI) -> None:
    audio_file = speech()
    transcription = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=audio_file)
    assert transcription.text == SAID
    assert transcription.usage is not None
    assert transcription.usage.type == "duration"
    assert 4 < transcription.usage.seconds < 6
    assert transcription._request_id


def test_the_quick_start_in_an_event_loop_prints_the_text(platform: Any) -> None:
    async def transcribe() -> str:
        async with AsyncOpenAI(
            base_url=f"{platform.url}/v1", api_key=platform.key, _strict_response_validation=True
        ) as client:
            audio_file = speech()
            found = await client.audio.transcriptions.create(model="whisper-1", file=audio_file)
            return found.text

    assert asyncio.run(transcribe()) == SAID


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_are_those_of_our_own_api(
    client: OpenAI, platform: Any, native: dict[str, Any], kind: Any
) -> None:
    own = platform.native.get(f"/jobs/{native['id']}/transcript", params={"format": kind}).text
    answer = client.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=speech(), response_format=kind
    )
    assert answer.text == own
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_text_is_plain_text_that_ends_a_line(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(
        model="whisper-1", file=speech(), response_format="text"
    )
    assert found == f"{SAID}\n"


def test_verbose_json_has_the_words_and_times_of_our_own_api(
    client: OpenAI, native: dict[str, Any]
) -> None:
    found = client.audio.transcriptions.create(
        model="whisper-1",
        file=speech(),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    own = native["transcript"]
    words = [word for segment in own["segments"] for word in segment["words"]]
    assert [(each.word, each.start, each.end) for each in found.words or ()] == [
        (each["text"], each["start"], each["end"]) for each in words
    ]
    segments = found.segments or []
    assert [(each.id, each.start, each.end) for each in segments] == [
        (each["id"], each["start"], each["end"]) for each in own["segments"]
    ]
    assert "".join(each.text for each in segments) == found.text == own["text"] == SAID
    assert (found.duration, found.language) == (own["duration_s"], "unknown")
    for each in segments:  # the oracle measures nothing, so these are derived
        assert (each.temperature, each.no_speech_prob, each.tokens) == (0, 0, [])
        assert -1 < each.avg_logprob <= 0
        assert each.compression_ratio > 1


@pytest.mark.parametrize(
    ("granularities", "members"),
    [(None, {"segments"}), (["segment"], {"segments"}), (["word"], {"words"})],
)
def test_a_client_gets_the_granularities_that_it_names(
    client: OpenAI, granularities: Any, members: set[str]
) -> None:
    named = {} if granularities is None else {"timestamp_granularities": granularities}
    found = client.audio.transcriptions.create(
        model="whisper-1", file=speech(), response_format="verbose_json", **named
    )
    assert {"words", "segments"} & set(found.to_dict()) == members


def test_log_probabilities_are_those_of_words(client: OpenAI, native: dict[str, Any]) -> None:
    found = client.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=speech(), include=["logprobs"]
    )
    told = found.logprobs or []
    assert "".join(each.token or "" for each in told) == SAID
    assert b"".join(bytes(map(int, each.bytes or ())) for each in told).decode() == SAID
    words = [word for each in native["transcript"]["segments"] for word in each["words"]]
    known = [word["confidence"] is None for word in words]
    assert [each.logprob is None for each in told] == known


@pytest.mark.parametrize("kind", ["json", "text"])
def test_a_stream_has_the_text_in_deltas_and_then_whole(client: OpenAI, kind: Any) -> None:
    work = Work(tuple(range(4000, 4120)))  # more than one chunk
    file = BytesIO(work.file())
    file.name = f"{kind}.wav"
    stream = client.audio.transcriptions.create(
        model="my-whisper", file=file, response_format=kind, stream=True
    )
    *deltas, done = [*stream]
    assert done.type == "transcript.text.done"
    assert done.text == work.recording.text
    assert "".join(delta_of(each) for each in deltas) == done.text


def delta_of(event: TranscriptionStreamEvent) -> str:
    assert event.type == "transcript.text.delta"
    return event.delta


def test_a_real_whisper_tells_what_its_decoder_measured(platform: Any, client: OpenAI) -> None:
    worker = platform.workers.start("model", "--model", "tiny.en-ct2")
    with recording(BECKETT).open("rb") as audio_file:
        found = client.audio.transcriptions.create(
            model="real-whisper",
            file=audio_file,
            language="en",
            prompt="Ever tried.",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
    worker.stop()
    assert found.language == "english"
    assert "Fail better" in found.text
    segments = found.segments or []
    assert len(segments) > 1
    assert "".join(each.text for each in segments) == found.text
    for each in segments:
        assert len(each.tokens) >= len(each.text.split())
        assert each.avg_logprob < 0
        assert 0 <= each.no_speech_prob < 1
        assert each.compression_ratio > 0
        assert each.temperature in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        assert each.seek <= each.start * 100
    assert len({each.avg_logprob for each in segments}) == 1, "they are of one window"
    assert len(found.words or ()) == len(found.text.split())


def test_models_are_listed_with_aliases_and_any_name_of_the_vendor_is_known(
    client: OpenAI,
) -> None:
    listed = [model.id for model in client.models.list()]
    assert "my-whisper" in listed
    assert "tiny.en-ct2" in listed
    for name in ("my-whisper", "whisper-1", "gpt-4o-mini-transcribe", "tiny.en-ct2"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("whisper-9")
    assert refused.value.code == "model_not_found"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"temperature": 0.5}, "temperature", "unsupported_parameter"),
    ({"response_format": "xml"}, "response_format", "invalid_parameter"),
    ({"known_speaker_names": ["agent"]}, "known_speaker_names", "unsupported_parameter"),
    ({"known_speaker_references": ["data:"]}, "known_speaker_references", "unsupported_parameter"),
    ({"languages": ["en", "de"]}, "languages", "unsupported_parameter"),
    ({"language": "klingonish"}, "language", "unsupported_language"),
    ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "invalid_parameter"),
    ({"include": ["logprobs"], "response_format": "text"}, "include", "invalid_parameter"),
    ({"stream": True, "response_format": "srt"}, "stream", "invalid_parameter"),
    ({"keywords": ["x" * 600, "y" * 600]}, "keywords", "invalid_parameter"),
    (
        {"chunking_strategy": {"type": "server_vad", "threshold": 0.2}},
        "chunking_strategy.threshold",
        "unsupported_parameter",
    ),
    ({"extra_body": {"best_of": 5}}, "best_of", "invalid_parameter"),
]


@pytest.mark.parametrize(("asked", "param", "code"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_would_change_the_answer_is_refused_by_name(
    client: OpenAI, asked: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.transcriptions.create(model="whisper-1", file=speech(), **asked)
    error = refused.value
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")
    assert error.request_id
    assert error.response.headers["x-should-retry"] == "false"


def test_what_asks_for_nothing_else_is_taken(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(
        model="whisper-1",
        file=speech(),
        temperature=0,
        stream=False,
        chunking_strategy={
            "type": "server_vad",
            "prefix_padding_ms": 100,
            "silence_duration_ms": 700,
            "threshold": 0.5,
        },
    )
    assert found.text == SAID
    known = {parameter.name for parameter in TRANSCRIPTION.takes}
    assert {"temperature", "stream", "chunking_strategy"} <= known


def test_the_granularity_may_be_named_without_brackets(platform: Any) -> None:
    answer = platform.native.post(
        "/v1/audio/transcriptions",
        files={"file": ("a.wav", WORK.file())},
        data={"response_format": "verbose_json", "timestamp_granularities": "word"},
    )
    assert len(answer.json()["words"]) == len(SAID.split())


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.audio.transcriptions.create(model="whisper-9", file=speech())
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_a_file_without_sound_is_refused_as_a_file(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"no audio at all"))
    error = refused.value
    assert (error.code, error.param) == ("audio_refused", "file")
    assert error.response.headers["x-should-retry"] == "false"


def test_a_stream_of_a_file_without_sound_is_refused_by_its_status(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.transcriptions.create(
            model="whisper-1", file=("a.wav", b"still no audio at all"), stream=True
        )
    assert refused.value.code == "audio_refused"


def test_a_wrong_key_is_told_as_such(platform: Any) -> None:
    stranger = OpenAI(base_url=f"{platform.url}/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"


def test_a_key_without_the_scope_is_told_as_such(platform: Any) -> None:
    _, key = create_key(platform.database, "default", "a reader", [Scope.JOBS_READ])
    reader = OpenAI(base_url=f"{platform.url}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        reader.audio.transcriptions.create(model="whisper-1", file=speech())
    assert refused.value.code == "scope_missing"
    assert refused.value.type == "permission_error"


def test_what_the_api_does_not_have_is_told_in_its_form(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=[])
    assert refused.value.code == "not_found"
    assert refused.value.type == "invalid_request_error"


def test_a_model_that_cannot_translate_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.audio.translations.create(model="my-whisper", file=speech())
    assert refused.value.code == "unsupported_option"


def test_litellm_gets_text_words_and_errors(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch prices
    import litellm  # takes seconds

    where = {"api_base": f"{platform.url}/v1", "api_key": platform.key, "max_retries": 0}
    found = litellm.transcription(model="openai/whisper-1", file=speech(), **where)
    assert found.text == SAID
    found = litellm.transcription(
        model="openai/whisper-1",
        file=speech(),
        response_format="verbose_json",
        timestamp_granularities=["word"],
        **where,
    )
    assert [each["word"] for each in found.words] == SAID.split()
    with pytest.raises(openai.BadRequestError, match="temperature"):
        litellm.transcription(model="openai/whisper-1", file=speech(), temperature=0.7, **where)
