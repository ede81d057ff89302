"""A client of the API that costs little itself: it shares the machine with what is measured."""

import http.client
import io
import itertools
import json
import time
from typing import Any, Self
from urllib.parse import urlsplit

from bench.audio import to_pcm, wav_of
from worker.engines.oracle import MAX_WORD, encode

SHORT_S = 2.0
"""Length of the audio of a job with one chunk."""
_WORDS = 5
_GAP_S = 0.16
_BOUNDARY = "longhand-bench"
_WAIT_S = 30
_KEPT_ALIVE_S = 2.0
"""Servers close connections that are idle for longer; uvicorn after 5 s."""

_numbers = itertools.cycle(range(MAX_WORD - _WORDS))


def short_recording() -> bytes:
    """Return a WAV file of two seconds; no two are equal, so no job gets another's transcript."""
    first = next(_numbers)
    samples, _ = encode(range(first, first + _WORDS), _GAP_S)
    samples.resize(int(SHORT_S * 16_000))
    return wav_of(to_pcm(samples)).read()


class Client:
    """One connection to an API. Not thread-safe."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=2 * _WAIT_S)
        self._used_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, audio: bytes, **fields: str) -> str:
        """Create a job; return its id."""
        form = io.BytesIO()
        for name, value in fields.items():
            form.write(_part(f'name="{name}"') + value.encode())
        form.write(_part('name="file"; filename="bench.wav"') + audio)
        form.write(f"\r\n--{_BOUNDARY}--\r\n".encode())
        content_type = f"multipart/form-data; boundary={_BOUNDARY}"
        job = self._ask("POST", "/jobs", form.getvalue()[2:], {"Content-Type": content_type})
        return str(job["id"])

    def await_end(self, job_id: str) -> None:
        """Wait until a job has succeeded.

        Raises:
            SystemExit: it has ended otherwise.
        """
        while True:
            job = self._ask("GET", f"/jobs/{job_id}?wait={_WAIT_S}")
            if job["state"] == "succeeded":
                return
            if job["state"] not in ("queued", "running"):
                raise SystemExit(f"bench: job {job_id} has {job['state']}: {job['error']}")

    def read(self, job_id: str) -> None:
        """Ask for a job that has succeeded, and for its transcript."""
        self._ask("GET", f"/jobs/{job_id}")
        self._ask("GET", f"/jobs/{job_id}/transcript")

    def transcribe(self, audio: bytes) -> float:
        """Return the seconds from the first byte sent to the result seen."""
        began = time.perf_counter()
        self.await_end(self.post(audio))
        return time.perf_counter() - began

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        if time.monotonic() - self._used_at > _KEPT_ALIVE_S:
            self._connection.close()  # the next request opens it again
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        self._used_at = time.monotonic()
        if response.status >= http.client.BAD_REQUEST:
            raise SystemExit(f"bench: {method} {path} is answered {response.status}: {answer}")
        return answer


def _part(disposition: str) -> bytes:
    return f"\r\n--{_BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
