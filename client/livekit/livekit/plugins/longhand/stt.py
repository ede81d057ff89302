"""Longhand as LiveKit's speech to text: streams over ``/ws/stt``, whole recordings as jobs."""

import asyncio
import weakref
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from livekit import rtc
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIStatusError,
    APITimeoutError,
    stt,
    utils,
)
from livekit.agents.language import LanguageCode
from livekit.agents.stt import SpeechData, SpeechEvent, SpeechEventType
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    NotGivenOr,
    TimedString,
)
from livekit.agents.utils import AudioBuffer, is_given

from .stream import Options, SpeechStream

WAIT_S = 30
"""How long the server holds a request for a job that is under way."""
PRIORITY = "10"
"""A caller waits for a recording that is recognized, so it goes before the tenant's other jobs."""


class STT(stt.STT[Any]):
    """Speech to text by a Longhand server."""

    def __init__(
        self,
        *,
        url: str = "ws://127.0.0.1:8000/ws/stt",
        language: str | None = None,
        model: str | None = None,
        interim_results: bool = True,
        vad_threshold: float | None = None,
        http_session: aiohttp.ClientSession | None = None,
    ) -> None:
        """Nothing is connected to yet.

        Args:
            url: the server's ``/ws/stt``.
            language: an ISO 639 code; None: the server's default, or detected.
            model: its id in the server's catalogue; None: the server chooses.
            interim_results: whether there are interim transcripts.
            vad_threshold: how sure the voice activity detector must be, in [0, 1]; None: the
                server's default.
            http_session: what to connect by; None: the session of LiveKit's job.

        Raises:
            ValueError: ``url`` is not a WebSocket's.
        """
        super().__init__(
            capabilities=stt.STTCapabilities(
                streaming=True,
                interim_results=interim_results,
                aligned_transcript="word",
                offline_recognize=True,
                manual_flush=True,
            )
        )
        if urlsplit(url).scheme not in ("ws", "wss"):
            raise ValueError(f"'{url}' is not the address of a WebSocket: ws://HOST:PORT/ws/stt")
        self._options = Options(url, language, model, interim_results, vad_threshold)
        self._http_session = http_session
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()

    @property
    def model(self) -> str:
        """The model's id, or 'auto' where the server chooses."""
        return self._options.model or "auto"

    @property
    def provider(self) -> str:
        """What makes the texts."""
        return "Longhand"

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> SpeechStream:
        """Return a new stream; it connects at once."""
        options = self._options
        if is_given(language):
            options = replace(options, language=language)
        stream = SpeechStream(
            stt=self, options=options, session=self._session(), conn_options=conn_options
        )
        self._streams.add(stream)
        return stream

    async def aclose(self) -> None:
        """Close all streams."""
        await asyncio.gather(*(stream.aclose() for stream in list(self._streams)))

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> SpeechEvent:
        """Transcribe a recording as a job, and wait for its end.

        Raises:
            APIStatusError: the server refuses, or the job fails.
            APIConnectionError: the server cannot be reached.
        """
        spoken = language if is_given(language) else self._options.language
        chosen = {"language": spoken, "model": self._options.model, "priority": PRIORITY}
        form = aiohttp.FormData({name: value for name, value in chosen.items() if value})
        wav = rtc.combine_audio_frames(buffer).to_wav_bytes()
        form.add_field("file", wav, filename="audio.wav", content_type="audio/wav")
        job = await self._request("POST", "/jobs", conn_options, data=form)
        query = {"wait": str(WAIT_S), "include": "words"}
        path = f"/jobs/{job['id']}"
        job = await self._request("GET", path, conn_options, params=query)
        while job["state"] in ("queued", "running"):
            job = await self._request("GET", path, conn_options, params=query)
        if job["state"] != "succeeded":
            error = job["error"] or {"code": "canceled", "detail": "the job was canceled"}
            raise APIStatusError(error["detail"], status_code=422, body=error)
        return SpeechEvent(
            type=SpeechEventType.FINAL_TRANSCRIPT,
            request_id=job["id"],
            alternatives=[_speech_of(job["transcript"])],
        )

    async def _request(
        self, method: str, path: str, conn_options: APIConnectOptions, **content: Any
    ) -> dict[str, Any]:
        parts = urlsplit(self._options.url)
        scheme = "https" if parts.scheme == "wss" else "http"
        prefix = parts.path.removesuffix("/ws/stt").rstrip("/")
        url = urlunsplit((scheme, parts.netloc, prefix + path, "", ""))
        timeout = aiohttp.ClientTimeout(
            sock_connect=conn_options.timeout, sock_read=WAIT_S + conn_options.timeout
        )
        try:
            async with self._session().request(method, url, timeout=timeout, **content) as response:
                body = await response.json(content_type=None)
        except TimeoutError as error:
            raise APITimeoutError(f"{url} does not answer") from error
        except aiohttp.ClientError as error:
            raise APIConnectionError(f"cannot reach {url}") from error
        except ValueError as error:
            raise APIStatusError(f"{url} is not Longhand's", status_code=response.status) from error
        if response.status >= 400:
            raise APIStatusError(
                str(body.get("detail", response.reason)), status_code=response.status, body=body
            )
        return dict(body)

    def _session(self) -> aiohttp.ClientSession:
        return self._http_session or utils.http_context.http_session()


class WhisperSTT(STT):
    """``STT`` by the names of an earlier plugin's arguments."""

    def __init__(self, service_url: str, language: str | None = None, **options: Any) -> None:
        super().__init__(url=service_url, language=language, **options)


def _speech_of(transcript: dict[str, Any]) -> SpeechData:
    words = [word for segment in transcript["segments"] for word in segment["words"]]
    sure = [word["confidence"] for word in words if word["confidence"] is not None]
    return SpeechData(
        language=LanguageCode(transcript["language"] or ""),
        text=transcript["text"],
        start_time=words[0]["start"] if words else 0.0,
        end_time=words[-1]["end"] if words else 0.0,
        confidence=sum(sure) / len(sure) if sure else 0.0,
        words=[_timed(word) for word in words] or None,
    )


def _timed(word: dict[str, Any]) -> TimedString:
    return TimedString(
        word["text"],
        start_time=word["start"],
        end_time=word["end"],
        confidence=NOT_GIVEN if word["confidence"] is None else word["confidence"],
        start_time_offset=0.0,
    )
