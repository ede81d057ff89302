"""The ``fetch`` step: the file at a job's URL, on its way into the object store.

The URL, and each one that it redirects to, passes the wall of ``shared.infra.outbound``. The file
is stored part by part, so a fetch holds one part in memory, 8 MiB. What breaks off goes on where it
was, if the server can do that.
"""

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import httpx

from shared import __version__
from shared.infra.errors import (
    FetchedNothing,
    FetchFailed,
    FetchForbidden,
    FetchTooLarge,
    FetchTooSlow,
    FileNotAtUrl,
    ForbiddenUrl,
    OutboundFailed,
    StorageUnavailable,
    TenantNotFound,
    TooManyRedirects,
    UrlAccessDenied,
    UrlRefused,
    WebPageAtUrl,
)
from shared.infra.file_names import header_file_name, url_file_name
from shared.infra.outbound import Download
from shared.infra.quantities import duration, size
from shared.infra.storage import PART_BYTES, Storage, Upload
from shared.models.options import fingerprint
from shared.store import steps
from shared.store.limits import Limits, get_limits
from shared.store.objects.keys import fetched_key
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

log = logging.getLogger(__name__)

MAX_REDIRECTS = 8
"""Podcasts' URLs lead through the servers of several companies that count listeners."""

IDLE_S = 30.0
"""How long the server may send nothing."""

SLOW_AFTER_S = 60.0
MIN_BYTES_S = 16 * 1024
"""A server that is slower than this on average, once ``SLOW_AFTER_S`` are over, is given up: others
wait for the slot."""

RESUMES = 3
"""How often a transfer that breaks off goes on where it was, before the step is tried anew."""

NOTE_EVERY_S = 1.0
"""How often the job is told how much has come."""

_HEADERS = {
    "User-Agent": f"Longhand/{__version__}",
    "Accept": "audio/*, video/*, application/octet-stream;q=0.9, */*;q=0.5",
    # What is unpacked here could be of any size.
    "Accept-Encoding": "identity",
}
_WEB_PAGES = ("text/html", "application/xhtml+xml")
_BUSY = (408, 425, 429)
_MISSING = (404, 410)
_DENIED = (401, 403, 407)


class Head(NamedTuple):
    """What a server says of a file before it comes."""

    name: str
    total_bytes: int | None
    validator: str | None
    """What the server knows this version of the file by, so that a transfer may go on; else None"""


def fetch(runtime: Runtime, lease: Lease) -> None:
    """Store the file at the job's URL, and queue ``prepare``.

    Raises:
        FetchError: the file cannot be had.
        FetchFailed, OutboundFailed: it was not had this time.
        StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: another worker fetches it now, or the job has ended.
        WorkerStopping: the worker was told to stop.
    """
    claim, settings = lease.claim, runtime.settings
    begun = time.monotonic()
    limits = Limits.of(settings)
    with contextlib.suppress(TenantNotFound):  # an issuer of JWTs may name tenants of its own
        limits = limits.with_own(get_limits(runtime.database, claim.tenant))
    transfer = _Transfer(runtime, lease, limits.max_upload_bytes, begun + settings.fetch_limit_s)
    key = fetched_key(claim.job_id, claim.epoch)
    digest = _store(runtime.storage, key, transfer.pieces(claim.input["url"]))
    options = claim.options
    equal = None
    if claim.input["cache"]:
        equal = fingerprint(digest, options, runtime.catalogue)
    steps.complete_fetch(
        runtime.database,
        claim,
        steps.Fetched(key, transfer.name, transfer.n_bytes, digest),
        fingerprint=equal,
        fetch_s=time.monotonic() - begun,
        max_attempts=settings.max_attempts,
    )


class _Transfer:
    """One attempt to get a file, whatever redirects and breaks there are on the way."""

    def __init__(self, runtime: Runtime, lease: Lease, max_bytes: int, ends: float) -> None:
        """``ends`` is the end of its time by ``time.monotonic``."""
        self.name = ""
        self.n_bytes = 0
        self._runtime, self._lease = runtime, lease
        self._max_bytes = max_bytes
        self._begun, self._ends = time.monotonic(), ends
        self._noted = -NOTE_EVERY_S

    def pieces(self, url: str) -> Iterator[bytes]:
        """Yield the file as it comes.

        Raises:
            FetchError, FetchFailed, OutboundFailed, LeaseLost, WorkerStopping: as ``fetch``.
        """
        head: Head | None = None
        resumes = 0
        while True:
            try:
                with self._answer(url, self._range(head)) as (answer, final_url):
                    head = self._check(answer, final_url, head)
                    for piece in answer.pieces():
                        self._count(len(piece), head)
                        yield piece
                break
            except OutboundFailed as error:
                if time.monotonic() >= self._ends:
                    raise self._too_slow() from error
                resumes += 1
                if not self.n_bytes or head is None or not head.validator or resumes > RESUMES:
                    raise
                log.info("%s after %d bytes: the fetch goes on there", error, self.n_bytes)
        if not self.n_bytes:
            raise FetchedNothing("the file at the URL is empty")

    @contextlib.contextmanager
    def _answer(self, url: str, more: Mapping[str, str]) -> Iterator[tuple[Download, str]]:
        """Follow redirects, and give the block the answer at their end and its URL."""
        for _ in range(MAX_REDIRECTS + 1):
            self._lease.check()
            left_s = self._ends - time.monotonic()
            if left_s <= 0:
                raise self._too_slow()
            with contextlib.ExitStack() as stack:
                try:
                    answer = stack.enter_context(
                        self._runtime.outbound.get(
                            url, headers={**_HEADERS, **more}, timeout_s=left_s, idle_s=IDLE_S
                        )
                    )
                except ForbiddenUrl as error:
                    raise FetchForbidden(str(error)) from error
                if (target := _redirect_target(url, answer)) is None:
                    yield answer, url
                    return
            url = target
        raise TooManyRedirects(f"the URL redirects more than {MAX_REDIRECTS} times")

    def _range(self, head: Head | None) -> dict[str, str]:
        """Return what asks for the rest of a file."""
        if head is None or head.validator is None or not self.n_bytes:
            return {}
        return {"Range": f"bytes={self.n_bytes}-", "If-Range": head.validator}

    def _check(self, answer: Download, url: str, before: Head | None) -> Head:
        """Return what the answer says of the file, or of its rest.

        Raises:
            FetchError, FetchFailed: it is none.
        """
        status = answer.status_code
        if before is not None and self.n_bytes:
            if not answer.headers.get("content-range", "").startswith(f"bytes {self.n_bytes}-"):
                raise FetchFailed("the transfer broke off, and the server does not go on with it")
            return before
        if status in _MISSING:
            raise FileNotAtUrl(f"there is no file at the URL: its server answered {status}")
        if status in _DENIED:
            raise UrlAccessDenied(f"the URL's server wants to know who asks: it answered {status}")
        if status in _BUSY or status >= 500:
            raise FetchFailed(f"the URL's server answered {status}")
        if status != 200:
            raise UrlRefused(f"the URL's server answered {status}")
        headers = answer.headers
        if headers.get("content-type", "").partition(";")[0].strip().lower() in _WEB_PAGES:
            raise WebPageAtUrl("a web page is at the URL, perhaps one to log in, and no audio")
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise UrlRefused("the URL's server packs the file although it was asked not to")
        total = headers.get("content-length", "")
        total_bytes = int(total) if total.isascii() and total.isdigit() else None
        if total_bytes is not None and total_bytes > self._max_bytes:
            raise self._too_large()
        self.name = header_file_name(headers.get("content-disposition", "")) or url_file_name(url)
        return Head(self.name, total_bytes, _validator(headers))

    def _count(self, n_bytes: int, head: Head) -> None:
        self._lease.check()
        self.n_bytes += n_bytes
        if self.n_bytes > self._max_bytes:
            raise self._too_large()
        now = time.monotonic()
        spent_s = now - self._begun
        if now >= self._ends:
            raise self._too_slow()
        if spent_s > SLOW_AFTER_S and self.n_bytes < spent_s * MIN_BYTES_S:
            raise FetchTooSlow(f"the URL's server sends less than {size(MIN_BYTES_S)} a second")
        if now - self._noted >= NOTE_EVERY_S:
            self._noted = now
            steps.note_fetched(
                self._runtime.database, self._lease.claim, self.n_bytes, head.total_bytes
            )

    def _too_large(self) -> FetchTooLarge:
        return FetchTooLarge(
            f"the file at the URL is larger than {size(self._max_bytes)} "
            "(LONGHAND_MAX_UPLOAD_BYTES, or your own limit)"
        )

    def _too_slow(self) -> FetchTooSlow:
        limit = duration(self._runtime.settings.fetch_limit_s)
        return FetchTooSlow(f"the file was not fetched within {limit} (LONGHAND_FETCH_LIMIT_S)")


def _redirect_target(url: str, answer: Download) -> str | None:
    """Return where a redirect leads; None: it is none.

    Raises:
        FetchForbidden: it leads nowhere.
    """
    location = answer.headers.get("location")
    if answer.status_code not in (301, 302, 303, 307, 308) or location is None:
        return None
    try:
        return str(httpx.URL(url).join(location).copy_with(fragment=None))
    except httpx.InvalidURL as error:
        raise FetchForbidden("the URL redirects to what is none") from error


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return a strong validator of the file, if the server takes ranges of it (RFC 9110)."""
    if headers.get("accept-ranges", "").strip().lower() != "bytes":
        return None
    etag = headers.get("etag", "").strip()
    return etag if etag.startswith('"') else None


def _store(storage: Storage, key: str, pieces: Iterator[bytes]) -> str:
    """Store a file as the object ``key``, whole or not at all; return its hex SHA-256.

    Raises:
        StorageUnavailable: the object store failed.
    """
    digest = hashlib.sha256()
    part = bytearray()
    upload: Upload | None = None
    n_bytes = n_parts = 0
    try:
        for piece in pieces:
            digest.update(piece)
            n_bytes += len(piece)
            part += piece
            while len(part) > PART_BYTES:
                upload = upload or storage.start_upload(key)
                n_parts += 1
                upload.send(n_parts, part[:PART_BYTES])
                del part[:PART_BYTES]
        if upload is None:
            storage.put(key, part)
            return digest.hexdigest()
        upload.send(n_parts + 1, part)
        if upload.stored_bytes() != n_bytes:
            raise StorageUnavailable("the object store did not keep the whole file")
        upload.finish()
        return digest.hexdigest()
    except BaseException:
        if upload is not None:
            with contextlib.suppress(StorageUnavailable):  # retention aborts it
                upload.abort()
        raise
