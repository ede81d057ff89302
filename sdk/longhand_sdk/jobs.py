"""What is done with jobs, as flows."""

import math
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, TypedDict
from uuid import uuid4

import httpx

from longhand_sdk.core import CONNECT_S, UPLOAD_TIMEOUT, Core, path_of
from longhand_sdk.errors import (
    FAILURES,
    APIError,
    JobCanceled,
    JobFailed,
    LonghandError,
    WaitTimeout,
)
from longhand_sdk.files import Audio, Form, OnProgress, Progress, opened, url_of
from longhand_sdk.flows import Call, Flow, Pause, Tell
from longhand_sdk.models import (
    Accuracy,
    JobInfo,
    JobPage,
    PartialTranscript,
    SearchPage,
    ShareLink,
    ShareLinkList,
    ShareLinkWithUrl,
    Transcript,
)
from longhand_sdk.uploads import RESUMABLE_BYTES, upload

WAIT_S = 30.0
"""How long the server is asked to wait for a job's end at a time."""
LOOK_S = 1.0
"""The same while somebody watches the progress."""

MEASURE_TIMEOUT = httpx.Timeout(120.0, connect=CONNECT_S)
"""To compare two texts of hours takes seconds, or a minute if nothing in them agrees."""


class JobOptions(TypedDict, total=False):
    """The options of a job, as ``POST /jobs`` has them; all of them optional."""

    model: str
    wait_for_worker: bool
    language: str
    task: str
    prompt: str
    hotwords: str
    vad: str
    multichannel: bool
    speakers: bool | Mapping[str, int]
    multilingual: bool
    track: str
    strict: bool
    reference: str
    priority: int
    cache: bool
    metadata: Mapping[str, Any]
    numerals: bool
    mask: str
    spelling: Mapping[str, str]
    webhook_url: str
    webhook_secret: str


class JobFilters(TypedDict, total=False):
    """Which jobs a list has, as ``GET /jobs`` has them; all of them optional."""

    state: str | list[str]
    model: str
    language: str
    batch_id: str
    created_from: str
    created_before: str
    metadata: list[str]


def submit(
    core: Core,
    audio: Audio,
    options: Mapping[str, Any],
    *,
    file_name: str | None,
    idempotency_key: str | None,
    on_progress: OnProgress | None,
) -> Flow[JobInfo]:
    """Send a file, or name its URL, and create its job.

    One ``Idempotency-Key`` goes with all attempts, so that there is one job whatever is lost.
    """
    key = {"Idempotency-Key": idempotency_key or str(uuid4())}
    given = {name: value for name, value in options.items() if value is not None}
    url = url_of(audio)
    if url is not None:
        named = (
            {"audio_url": url} if file_name is None else {"audio_url": url, "file_name": file_name}
        )
        return (
            yield from core.ask(JobInfo, Call("POST", "/jobs", json=named | given, headers=key))
        )
    with ExitStack() as stack:
        file = yield from opened(stack, audio, on_progress)
        file.name = file_name or file.name
        if file.size_bytes <= RESUMABLE_BYTES:
            form = Form(given, file)
            call = Call("POST", "/jobs", body=form, headers=key, timeout=UPLOAD_TIMEOUT)
            return (yield from core.ask(JobInfo, call))
        upload_id = yield from upload(core, file)
    call = Call("POST", "/jobs", json={"upload_id": upload_id} | given, headers=key)
    try:
        return (yield from core.ask(JobInfo, call))
    except APIError:
        with suppress(LonghandError):  # nobody needs it any more; it would be kept for a day
            yield from core.request(Call("DELETE", path_of("uploads", upload_id)))
        raise


def get(
    core: Core,
    job_id: str,
    *,
    wait_s: float = 0.0,
    words: bool = False,
    text: bool = True,
    within_s: float = math.inf,
) -> Flow[JobInfo]:
    """Return a job: as soon as it has ended, or as it is after ``wait_s``.

    Of a caller who has ``within_s`` left, a silent server gets no more than that, or 5 s.
    """
    params: dict[str, Any] = {"wait": f"{wait_s:g}"} if wait_s else {}
    if words:
        params["include"] = "words"
    if not text:
        params["text"] = "false"
    silence_s = wait_s + min(core.timeout_s, max(within_s, CONNECT_S))
    timeout = httpx.Timeout(silence_s, connect=CONNECT_S)
    call = Call("GET", path_of("jobs", job_id), params, timeout=timeout)
    return (yield from core.ask(JobInfo, call, within_s))


def wait(
    core: Core, job_id: str, timeout_s: float | None, on_progress: OnProgress | None
) -> Flow[JobInfo]:
    """Wait for a job's success; return it with its whole transcript.

    Raises:
        JobFailed: it has failed or was canceled.
        WaitTimeout: it did not end in time.
    """
    deadline = None if timeout_s is None else core.clock() + timeout_s
    longest_s = WAIT_S if on_progress is None else LOOK_S
    asked_s = 0.0 if on_progress is not None else longest_s
    while True:
        left_s = math.inf if deadline is None else max(0.0, deadline - core.clock())
        asked_s = min(asked_s, left_s)
        job = yield from get(core, job_id, wait_s=asked_s, words=True, within_s=left_s)
        if on_progress is not None:
            yield Tell(_told(on_progress, job))
        if job.ended:
            return (yield from _succeeded(core, job))
        if deadline is not None and core.clock() >= deadline:
            raise WaitTimeout(f"job {job_id} has not ended within {timeout_s:g} s")
        asked_s = longest_s


def _succeeded(core: Core, job: JobInfo) -> Flow[JobInfo]:
    if job.state == "succeeded":
        if job.transcript is None:  # deleted: the answer says so
            found = yield from transcript(core, job.id)
            return job.model_copy(update={"transcript": found})
        return job
    partial = None
    if job.progress.chunks_done:
        try:
            content = yield from export(core, job.id, "json", {"partial": "true"})
            partial = core.parsed(PartialTranscript, content)
        except LonghandError:
            partial = None
    error = job.error
    if job.state == "canceled":
        raise JobCanceled(f"job {job.id} was canceled", job, partial)
    code = "" if error is None else error.code
    detail = f"job {job.id} has failed" if error is None else error.detail
    raise FAILURES.get(code, JobFailed)(detail, job, partial, code or None)


def transcript(core: Core, job_id: str) -> Flow[Transcript]:
    """Return a job's transcript."""
    content = yield from export(core, job_id, "json", {})
    return core.parsed(Transcript, content)


def export(core: Core, job_id: str, form: str, params: Mapping[str, Any]) -> Flow[bytes]:
    """Return a job's transcript in one of the server's formats."""
    call = Call("GET", path_of("jobs", job_id, "transcript"), {"format": form, **params})
    response = yield from core.request(call)
    return response.content


def listed(core: Core, filters: Mapping[str, Any]) -> Flow[None]:
    """Emit jobs, newest first."""
    return core.pages(JobPage, Call("GET", "/jobs", {"limit": 100, **filters}), "jobs")


def search(core: Core, query: str) -> Flow[None]:
    """Emit hits, those in the newest transcripts first."""
    return core.pages(SearchPage, Call("GET", "/search", {"q": query, "limit": 100}), "hits")


def cancel(core: Core, job_id: str) -> Flow[JobInfo]:
    """Have a job stopped."""
    return core.ask(JobInfo, Call("POST", path_of("jobs", job_id, "cancel")))


def retry(core: Core, job_id: str) -> Flow[JobInfo]:
    """Have a failed or canceled job taken up again."""
    return core.ask(JobInfo, Call("POST", path_of("jobs", job_id, "retry"), repeatable=False))


def delete(core: Core, job_id: str) -> Flow[None]:
    """Delete a job."""
    yield from core.request(Call("DELETE", path_of("jobs", job_id)))


def measure(core: Core, job_id: str, reference: str) -> Flow[Accuracy]:
    """Compare a transcript with what was really said."""
    call = Call(
        "POST",
        path_of("jobs", job_id, "reference"),
        json={"reference": reference},
        timeout=MEASURE_TIMEOUT,
    )
    response = yield from core.request(call)
    if response.status_code != httpx.codes.ACCEPTED:
        return core.parsed(Accuracy, response.content)
    while True:  # a worker compares them
        job = yield from get(core, job_id, text=False)
        if job.metrics.get("accuracy") is not None:
            return Accuracy.model_validate(job.metrics["accuracy"])
        yield Pause(1.0)


def share(core: Core, job_id: str, expires_in_s: float | None) -> Flow[ShareLinkWithUrl]:
    """Make a link to a transcript; None: the server's own time."""
    given = {} if expires_in_s is None else {"expires_in_s": expires_in_s}
    # It is repeatable: a link whose answer was lost is one that nobody can open.
    call = Call("POST", path_of("jobs", job_id, "shares"), json=given)
    link = yield from core.ask(ShareLinkWithUrl, call)
    is_path = link.url.startswith("/")
    return link.model_copy(update={"url": core.base_url + link.url}) if is_path else link


def shares(core: Core, job_id: str) -> Flow[tuple[ShareLink, ...]]:
    """Return the links to a transcript."""
    found = yield from core.ask(ShareLinkList, Call("GET", path_of("jobs", job_id, "shares")))
    return found.shares


def unshare(core: Core, job_id: str, link_id: str) -> Flow[None]:
    """Revoke a link to a transcript."""
    yield from core.request(Call("DELETE", path_of("jobs", job_id, "shares", link_id)))


def _told(on_progress: OnProgress, job: JobInfo) -> Any:
    progress = job.progress
    percent = 100.0 if job.state == "succeeded" else progress.percent
    return lambda: on_progress(Progress(progress.stage or job.state, percent, job=job))
