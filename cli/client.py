"""The HTTP API as the command line uses it. Every failure is a ``CommandError`` of one line."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Self, cast
from urllib.parse import urlsplit

import httpx

from cli.errors import CommandError, printable

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
CANCEL_TIMEOUT_S = 1.0
PARTIAL_TIMEOUT_S = 3.0
MEASURE_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
"""Twelve hours of text take seconds, where they have nothing in common a minute."""
OUTAGE_S = 30.0
"""How long a server that was there may be away, for a restart say."""
BUSY_RETRIES = 6
MAX_BUSY_WAIT_S = 30.0
_NO_SIZES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class JobView:
    """What ``GET /jobs/{id}`` says of a job."""

    id: str
    state: str
    stage: str
    chunks_done: int
    chunks_total: int
    """As far as the audio is decoded."""
    percent: float | None
    """Transcribed of the whole; None until the whole is known."""
    rtfx: float | None
    """Audio per second of this run; None before there is a speed."""
    eta_s: float | None
    duration_s: float | None
    cached: bool
    """Whether the transcript is that of an equal, earlier job."""
    heard_nothing: bool
    """Whether the transcript is there, and empty."""
    waiting_for: str | None
    """What it cannot go on without; None: nothing, or its turn."""
    warnings: tuple[str, ...]
    """Reasons to read the transcript with care, a sentence each."""
    error: str | None
    """Why it failed, in one sentence."""
    error_code: str | None

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        """Read a job resource, tolerating what it leaves out."""
        progress = body.get("progress") or {}
        transcript = body.get("transcript") or {}
        error = body.get("error")
        waiting_for = body.get("waiting_for")
        return cls(
            id=body["id"],
            state=body["state"],
            stage=progress.get("stage") or body["state"],
            chunks_done=progress.get("chunks_done") or 0,
            chunks_total=progress.get("chunks_total") or 0,
            percent=progress.get("percent"),
            rtfx=progress.get("rtfx"),
            eta_s=progress.get("eta_s"),
            duration_s=body.get("duration_s"),
            cached=bool(body.get("cached")),
            heard_nothing=transcript.get("text") == "",
            waiting_for=waiting_for["detail"] if waiting_for else None,
            warnings=tuple(f"{w['detail']} ({w['code']})" for w in transcript.get("warnings", ())),
            error=error["detail"] if error else None,
            error_code=error.get("code") if error else None,
        )

    @property
    def ended(self) -> bool:
        """Whether the job has reached a state that it does not leave."""
        return self.state in ("succeeded", "failed", "canceled")


class _CountingFile:
    """A file that tells how much of it has been read; httpx streams it in small pieces."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._on_read = on_read

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._on_read(len(data))
        return data

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class Client:
    """One server; safe to use from several threads."""

    def __init__(self, base_url: str, stop: threading.Event) -> None:
        """Check the address; connects on first use. ``stop`` ends every wait for a busy server.

        Raises:
            CommandError: it is no http(s) URL.
        """
        try:
            parts = urlsplit(base_url)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, say
            valid = False
        if not valid:
            raise CommandError(f"'{base_url}' is not a server's address: expected http://HOST:PORT")
        self.base_url = base_url.rstrip("/")
        self._stop = stop
        # A proxy from the environment cannot reach this machine's own loopback.
        local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(base_url=self.base_url, timeout=TIMEOUT, trust_env=not local)

    def close(self) -> None:
        """Give back the connections."""
        self._http.close()

    def submit(
        self,
        path: Path,
        *,
        fields: Mapping[str, str],
        on_sent: Callable[[int], None],
    ) -> JobView:
        """Upload a file, streaming it, and create its job; waits while the server says it is busy.

        ``fields`` are the options of ``POST /jobs``; ``on_sent`` is told the bytes sent so far.

        Raises:
            CommandError: the file cannot be read, or the server refuses it or cannot be reached.
        """
        for attempt in range(BUSY_RETRIES + 1):
            sent = 0

            def count(n_bytes: int) -> None:
                nonlocal sent
                sent += n_bytes
                on_sent(sent)

            try:
                with path.open("rb") as file:
                    upload = cast("BinaryIO", _CountingFile(file, count))
                    response = self._http.post(
                        "/jobs", data=dict(fields), files={"file": (printable(path.name), upload)}
                    )
            except httpx.HTTPError as error:
                raise CommandError(self._unreachable(error)) from error
            if response.status_code not in (429, 503) or attempt == BUSY_RETRIES:
                break
            self._pause(_retry_after_s(response))
        if response.status_code in (404, 405):
            raise CommandError(self._foreign())
        return self._view(response)

    def job(self, job_id: str, *, wait_s: float) -> JobView:
        """Return a job as soon as it has ended, or as it is after ``wait_s``.

        Sits out a short absence of the server.

        Raises:
            CommandError: the server is away for longer than OUTAGE_S, or does not know the job.
        """
        return self._view(self._get(f"/jobs/{job_id}", {"wait": f"{wait_s:g}"}))

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be stopped; a server that is away or slow is not waited for."""
        with suppress(httpx.HTTPError):
            self._http.post(f"/jobs/{job_id}/cancel", timeout=CANCEL_TIMEOUT_S)

    def transcript(self, job_id: str, form: str, sizes: Mapping[str, str] = _NO_SIZES) -> str:
        """Return a succeeded job's transcript in one of the server's formats.

        ``sizes`` are those of subtitles, as the server calls them.
        """
        response = self._get(f"/jobs/{job_id}/transcript", {"format": form, **sizes})
        self._check(response)
        return response.text

    def partial_transcript(
        self, job_id: str, form: str, sizes: Mapping[str, str] = _NO_SIZES
    ) -> str:
        """Return what a job has transcribed so far; arguments as of ``transcript``.

        Raises:
            CommandError: the server does not tell, or not soon enough.
        """
        try:
            response = self._http.get(
                f"/jobs/{job_id}/transcript",
                params={"format": form, "partial": "true", **sizes},
                timeout=PARTIAL_TIMEOUT_S,
            )
        except httpx.HTTPError as error:
            raise CommandError(self._unreachable(error)) from error
        self._check(response)
        return response.text

    def measure(self, job_id: str, reference: str) -> str:
        """Compare a transcript with what was really said; return its error rates in words.

        Raises:
            CommandError: the server cannot be reached, or refuses the reference.
        """
        try:
            response = self._http.post(
                f"/jobs/{job_id}/reference", json={"reference": reference}, timeout=MEASURE_TIMEOUT
            )
            self._check(response)
            found = response.json()
            while response.status_code == 202 and "accuracy" not in found["metrics"]:
                self._pause(1.0)
                found = self._get(f"/jobs/{job_id}").json()
            found = found["metrics"]["accuracy"] if response.status_code == 202 else found
            return (
                f"word error rate {found['wer']:.1%} ({found['word_errors']} of {found['words']} "
                f"words), character error rate {found['cer']:.1%}"
            )
        except httpx.HTTPError as error:
            raise CommandError(self._unreachable(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(self._foreign()) from error

    def _get(self, path: str, query: dict[str, str] | None = None) -> httpx.Response:
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                response = self._http.get(path, params=query)
                if response.status_code not in (429, 502, 503, 504):
                    return response
                pause_s = _retry_after_s(response)
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise CommandError(self._unreachable(error)) from error
                pause_s = 0.5
            if time.monotonic() > deadline:
                return response
            self._pause(pause_s)

    def _view(self, response: httpx.Response) -> JobView:
        self._check(response)
        try:
            return JobView.parse(response.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CommandError(self._foreign()) from error

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = f"{self.base_url} answered {response.status_code} {response.reason_phrase}"
        raise CommandError(" ".join(str(detail).split()))

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise CommandError("stopped")

    def _foreign(self) -> str:
        return f"{self.base_url} does not answer like a Longhand server"

    def _unreachable(self, error: httpx.HTTPError) -> str:
        reason = str(error) or type(error).__name__
        if "WRONG_VERSION_NUMBER" in reason:  # as OpenSSL says it
            reason = "it does not speak https; try http"
        return f"cannot reach {self.base_url}: {reason}"


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return min(MAX_BUSY_WAIT_S, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return 1.0
