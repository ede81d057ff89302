"""The HTTP API as the command line uses it. Every failure is a ``CommandError``."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit

import httpx
from pydantic import ValidationError

from cli.errors import CommandError
from cli.messages import one_line
from cli.server_key import key_headers
from cli.transcribe.job_view import JobView

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
CANCEL_TIMEOUT_S = 1.0
PARTIAL_TIMEOUT_S = 3.0
MEASURE_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
"""To compare two texts of twelve hours takes seconds, or a minute if nothing in them agrees."""
OUTAGE_S = 120.0
"""How long a server that was there may be away. A restart takes less, even after it hung for a
minute (``cli.embedded.watch``)."""
BUSY_RETRIES = 6
MAX_BUSY_WAIT_S = 30.0


def server_address(url: str) -> SplitResult:
    """Return the parts of a server's address.

    Raises:
        CommandError: it is no http(s) URL.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, say
        valid = False
    if not valid:
        raise CommandError(f"'{url}' is not a server's address: expected http://HOST:PORT")
    return parts


class _Upload:
    """A file that keeps the length it has when opened: httpx declares it before it reads."""

    def __init__(self, file: IO[bytes], on_read: Callable[[int], None]) -> None:
        """Begin at the file's start; ``on_read`` is told the bytes read so far."""
        self._file = file
        self._on_read = on_read
        self._size_bytes = os.fstat(file.fileno()).st_size

    @property
    def has_grown(self) -> bool:
        return os.fstat(self._file.fileno()).st_size > self._size_bytes

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + (self._size_bytes if whence == os.SEEK_END else 0))

    def read(self, size: int) -> bytes:
        left = self._size_bytes - self.tell()
        data = self._file.read(min(size, left))
        if left and not data:
            raise CommandError("the file was cut off while it was being uploaded")
        self._on_read(self.tell())
        return data


class Client:
    """One server; safe to use from several threads."""

    def __init__(self, base_url: str, stop: threading.Event) -> None:
        """Check the address; nothing is connected to yet.

        Once ``stop`` is set, a busy or absent server is not waited for any more.

        Raises:
            CommandError: it is no http(s) URL.
        """
        parts = server_address(base_url)
        self.base_url = base_url.rstrip("/")
        self._stop = stop
        # A proxy that the environment names cannot reach this machine's loopback.
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(
            base_url=self.base_url, timeout=TIMEOUT, trust_env=not local, headers=key_headers()
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(
        self,
        path: Path,
        *,
        fields: Mapping[str, str],
        on_sent: Callable[[int], None],
        on_growth: Callable[[], None],
    ) -> JobView:
        """Upload a file, streaming it, and create its job; wait while the server says it is busy.

        Args:
            path: the file. What is appended to it meanwhile is not sent.
            fields: those of the form beside the file.
            on_sent: is told the bytes sent so far.
            on_growth: is called if something was appended to the file meanwhile.

        Raises:
            CommandError: the server refuses the file or cannot be reached, or the file became
                shorter meanwhile.
            OSError: the file cannot be read.
        """
        has_grown = False

        def send() -> httpx.Response:
            nonlocal has_grown
            with path.open("rb") as file:
                upload = _Upload(file, on_sent)
                files = {"file": (one_line(path.name), upload)}
                response = self._send("POST", "/jobs", data=dict(fields), files=files)
                has_grown = upload.has_grown
            return response

        job = self._submit(send)
        if has_grown:
            on_growth()
        return job

    def submit_url(self, url: str, *, members: Mapping[str, Any]) -> JobView:
        """Create a job of a file that the server fetches; wait while the server says it is busy.

        ``members`` are those of the JSON body beside the URL.

        Raises:
            CommandError: the server refuses the URL, or cannot be reached.
        """
        body = {"audio_url": url, **members}
        return self._submit(lambda: self._send("POST", "/jobs", json=body))

    def _submit(self, send: Callable[[], httpx.Response]) -> JobView:
        for attempt in range(BUSY_RETRIES + 1):
            response = send()
            if response.status_code not in (429, 503) or attempt == BUSY_RETRIES:
                break
            self._pause(_retry_after_s(response))
        if response.status_code in (404, 405):
            raise self._foreign()
        return self._view(response)

    def job(self, job_id: str, *, wait_s: float) -> JobView:
        """Return a job as soon as it has ended, or as it is after ``wait_s``; without its text.

        A short absence of the server is waited for.

        Raises:
            CommandError: the server is away for longer than OUTAGE_S, or does not know the job.
        """
        return self._view(self._get(f"/jobs/{job_id}", {"wait": f"{wait_s:g}", "text": "false"}))

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be canceled; a server that is away or slow is not waited for."""
        with suppress(httpx.HTTPError):
            self._http.post(f"/jobs/{job_id}/cancel", timeout=CANCEL_TIMEOUT_S)

    def transcript(self, job_id: str, form: str, sizes: Mapping[str, str]) -> bytes:
        """Return a succeeded job's transcript in one of the server's formats.

        ``sizes`` are the server's parameters for those of subtitles.
        """
        response = self._get(f"/jobs/{job_id}/transcript", {"format": form, **sizes})
        return self._checked(response).content

    def partial_transcript(self, job_id: str, form: str, sizes: Mapping[str, str]) -> bytes:
        """Return what a job has transcribed so far; arguments as of ``transcript``.

        Raises:
            CommandError: the server does not tell, or not soon enough.
        """
        query = {"format": form, "partial": "true", **sizes}
        path = f"/jobs/{job_id}/transcript"
        response = self._send("GET", path, params=query, timeout=PARTIAL_TIMEOUT_S)
        return self._checked(response).content

    def measure(self, job_id: str, reference: str) -> str:
        """Compare a transcript with what was really said; return its error rates as a sentence.

        Raises:
            CommandError: the server cannot be reached, or refuses the reference.
        """
        path, body = f"/jobs/{job_id}/reference", {"reference": reference}
        response = self._checked(self._send("POST", path, json=body, timeout=MEASURE_TIMEOUT))
        try:
            found = response.json()
            if response.status_code == 202:  # a worker compares them
                while (found := found["metrics"].get("accuracy")) is None:
                    self._pause(1.0)
                    found = self._get(f"/jobs/{job_id}").json()
            return (
                f"word error rate {found['wer']:.1%} ({found['word_errors']} of {found['words']} "
                f"words), character error rate {found['cer']:.1%}"
            )
        except (ValueError, KeyError, TypeError) as error:
            raise self._foreign() from error

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> httpx.Response:
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                response = self._http.get(path, params=query)
                if response.status_code not in (429, 502, 503, 504):
                    return response
                pause_s = _retry_after_s(response)
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from error
                pause_s = 0.5
            if time.monotonic() > deadline:
                return response
            self._pause(pause_s)

    def _view(self, response: httpx.Response) -> JobView:
        try:
            return JobView.model_validate_json(self._checked(response).content)
        except ValidationError as error:
            raise self._foreign() from error

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = f"{self.base_url} answered {response.status_code} {response.reason_phrase}"
        raise CommandError(" ".join(str(detail).split()))

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise CommandError("stopped")

    def _foreign(self) -> CommandError:
        return CommandError(f"{self.base_url} does not answer like a Longhand server")

    def _unreachable(self, error: httpx.HTTPError) -> CommandError:
        reason = str(error) or type(error).__name__
        if "WRONG_VERSION_NUMBER" in reason:  # as OpenSSL says it
            reason = "it does not speak https; try http"
        return CommandError(f"cannot reach {self.base_url}: {reason}")


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(MAX_BUSY_WAIT_S, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return 1.0
