"""The client for programs without asyncio. ``longhand_sdk.async_client`` is the same with it."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, Unpack

import httpx

from longhand_sdk import events, jobs
from longhand_sdk.blocking import Runner
from longhand_sdk.core import CONNECT_S, RETRY_S, TIMEOUT_S, AnyModel, Core, path_of
from longhand_sdk.errors import JobFailed
from longhand_sdk.files import Audio, OnProgress
from longhand_sdk.flows import Call, Flow, any_call
from longhand_sdk.jobs import JobFilters, JobOptions
from longhand_sdk.models import (
    Accuracy,
    Delivery,
    DeliveryPage,
    Event,
    JobInfo,
    JobState,
    ModelInfo,
    ModelList,
    SearchHit,
    ShareLink,
    ShareLinkWithUrl,
    Transcript,
    Webhook,
    WebhookList,
    WebhookTest,
    WebhookWithSecret,
    WorkerInfo,
    WorkerList,
)
from longhand_sdk.webhooks import unwrap


class Longhand:
    """A client of one server; several threads may use it.

    Every method raises ``APIError`` where the server refuses the request, and ``ConnectionFailed``
    where it cannot be reached.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        retry_s: float = RETRY_S,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Prepare a client; nothing is connected to yet.

        Args:
            base_url: None: ``LONGHAND_SERVER`` of the environment, or http://127.0.0.1:8000.
            api_key: None: ``LONGHAND_API_KEY`` of the environment, or none.
            retry_s: for how long a server that is away or busy is asked again, in seconds.
            timeout_s: how long the server may say nothing, in seconds; uploads have longer.
            transport: httpx's; None: its own.
            sleep: how pauses are made.

        Raises:
            ValueError: the address is no http(s) URL, or the key is none.
        """
        self._core = Core(base_url, api_key, retry_s, timeout_s=timeout_s)
        self._http = httpx.Client(
            base_url=self._core.base_url,
            headers=self._core.headers,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            transport=transport,
            trust_env=not self._core.is_local,
        )
        self._runner = Runner(self._http, sleep)
        self.jobs = Jobs(self._core, self._runner)
        self.webhooks = Webhooks(self._core, self._runner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def base_url(self) -> str:
        """The server's address, without a slash at its end."""
        return self._core.base_url

    def transcribe(
        self,
        audio: Audio,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Transcript:
        """Send a file, wait for its job's end, and return the transcript.

        Args:
            audio: a path, an http(s) URL, bytes or an open binary file.
            on_progress: is told of the upload and then of the job.
            timeout: how long the job may take, in seconds; None: as long as it does.
            options: those of ``POST /jobs``, such as ``language`` and ``model``.

        Raises:
            JobFailed: the job has failed; what was transcribed before is its ``partial``.
            WaitTimeout: the job has not ended in time; it goes on.
            OSError: the file cannot be read.
        """
        job = self.jobs.submit(audio, on_progress=on_progress, **options)
        return job.wait(timeout, on_progress=on_progress)

    def search(self, query: str) -> Iterator[SearchHit]:
        """Yield segments of transcripts that have the words, "phrases" and beginnings*."""
        return self._runner.iterate(jobs.search(self._core, query))

    def models(self) -> tuple[ModelInfo, ...]:
        """Return the models that jobs may name."""
        return self._runner.run(self._core.ask(ModelList, Call("GET", "/models"))).models

    def workers(self) -> tuple[WorkerInfo, ...]:
        """Return the living workers."""
        return self._runner.run(self._core.ask(WorkerList, Call("GET", "/workers"))).workers

    def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> httpx.Response:
        """Send any request of docs/openapi, with the client's key, retries and errors."""
        call = any_call(method, path, params or {}, json)
        return self._runner.run(self._core.request(call))


class Job:
    """A job on the server. ``info`` is how it was when it was last asked for."""

    def __init__(self, core: Core, runner: Runner, info: JobInfo) -> None:
        self._core, self._runner = core, runner
        self.info = info

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self.info.id

    @property
    def state(self) -> JobState:
        """Its state, as of ``info``."""
        return self.info.state

    def wait(
        self, timeout: float | None = None, *, on_progress: OnProgress | None = None
    ) -> Transcript:
        """Wait for the job's end, and return its transcript; raises what ``transcribe`` does."""
        flow = jobs.wait(self._core, self.id, timeout, on_progress)
        try:
            self.info = self._runner.run(flow)
        except JobFailed as error:
            self.info = error.job or self.info
            raise
        assert self.info.transcript is not None
        return self.info.transcript

    def events(self, *, after: str = "") -> Iterator[Event]:
        """Yield what happens to the job until it has ended, from its beginning or after an id.

        A lost connection, or a server that is restarted, costs no event and doubles none.
        """
        return self._runner.iterate(events.events(self._core, self.id, after))

    def refresh(self, *, wait_s: float = 0.0, text: bool = True) -> JobInfo:
        """Ask for the job anew; arguments as of ``jobs.get``."""
        return self._keep(jobs.get(self._core, self.id, wait_s=wait_s, text=text))

    def cancel(self) -> JobInfo:
        """Stop the job."""
        return self._keep(jobs.cancel(self._core, self.id))

    def retry(self) -> JobInfo:
        """Take up a failed or canceled job from its finished chunks."""
        return self._keep(jobs.retry(self._core, self.id))

    def delete(self) -> None:
        """Delete the job and all that is its own."""
        self._runner.run(jobs.delete(self._core, self.id))

    def transcript(self) -> Transcript:
        """Return the transcript of a job that has succeeded."""
        return self._runner.run(jobs.transcript(self._core, self.id))

    def export(self, form: str, **params: str | int | bool) -> bytes:
        """Return the transcript as ``txt``, ``json``, ``srt``, ``vtt``, ``tsv`` or ``docx``.

        ``params`` are those of ``GET /jobs/{id}/transcript``, such as ``partial`` and ``original``.
        """
        return self._runner.run(jobs.export(self._core, self.id, form, params))

    def measure(self, reference: str) -> Accuracy:
        """Compare the transcript with what was really said."""
        return self._runner.run(jobs.measure(self._core, self.id, reference))

    def share(self, *, expires_in_s: float | None = None) -> ShareLinkWithUrl:
        """Make a link that opens transcript and audio in a browser, read only and without a key.

        It is valid for a week, or as long as ``expires_in_s`` says: from a minute to 90 days.
        """
        return self._runner.run(jobs.share(self._core, self.id, expires_in_s))

    def shares(self) -> tuple[ShareLink, ...]:
        """Return the links that are valid."""
        return self._runner.run(jobs.shares(self._core, self.id))

    def unshare(self, link_id: str) -> None:
        """Revoke a link."""
        self._runner.run(jobs.unshare(self._core, self.id, link_id))

    def _keep(self, flow: Flow[JobInfo]) -> JobInfo:
        self.info = self._runner.run(flow)
        return self.info


class Jobs:
    """The jobs of a server: ``client.jobs``."""

    def __init__(self, core: Core, runner: Runner) -> None:
        self._core, self._runner = core, runner

    def submit(
        self,
        audio: Audio,
        *,
        file_name: str | None = None,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Send a file and create its job; arguments and exceptions are those of ``transcribe``.

        Args:
            file_name: None: the file's own.
            idempotency_key: the same key within 24 hours gives the same job; None: a new one, for
                all attempts of this call.
        """
        flow = jobs.submit(
            self._core,
            audio,
            options,
            file_name=file_name,
            idempotency_key=idempotency_key,
            on_progress=on_progress,
        )
        return self._job(self._runner.run(flow))

    def get(self, job_id: str, *, wait_s: float = 0.0, text: bool = True) -> Job:
        """Return a job: as soon as it has ended, or as it is after ``wait_s`` (60 at most).

        Without ``text``, ``info`` has only what the transcript says of itself.
        """
        return self._job(self._runner.run(jobs.get(self._core, job_id, wait_s=wait_s, text=text)))

    def list(self, **filters: Unpack[JobFilters]) -> Iterator[Job]:
        """Yield jobs, newest first, page by page."""
        return map(self._job, self._runner.iterate(jobs.listed(self._core, filters)))

    def _job(self, info: JobInfo) -> Job:
        return Job(self._core, self._runner, info)


class Webhooks:
    """Who is told of jobs' ends: ``client.webhooks``."""

    unwrap = staticmethod(unwrap)

    def __init__(self, core: Core, runner: Runner) -> None:
        self._core, self._runner = core, runner

    def create(self, url: str, **members: Any) -> WebhookWithSecret:
        """Add a webhook; ``members`` are ``events`` and ``description``."""
        call = Call("POST", "/webhooks", json={"url": url, **members}, repeatable=False)
        return self._ask(WebhookWithSecret, call)

    def list(self) -> tuple[Webhook, ...]:
        """Return all webhooks, the oldest first."""
        return self._ask(WebhookList, Call("GET", "/webhooks")).webhooks

    def update(self, webhook_id: str, **members: Any) -> Webhook:
        """Change ``url``, ``description``, ``events`` or ``enabled``."""
        call = Call("PATCH", path_of("webhooks", webhook_id), json=members)
        return self._ask(Webhook, call)

    def delete(self, webhook_id: str) -> None:
        """Remove a webhook."""
        self._runner.run(self._core.request(Call("DELETE", path_of("webhooks", webhook_id))))

    def rotate(self, webhook_id: str) -> WebhookWithSecret:
        """Replace a webhook's secret; the old one signs too for 24 hours."""
        call = Call("POST", path_of("webhooks", webhook_id, "rotate"), repeatable=False)
        return self._ask(WebhookWithSecret, call)

    def test(self, webhook_id: str) -> WebhookTest:
        """Send a test event now, and return how that went."""
        call = Call("POST", path_of("webhooks", webhook_id, "test"), repeatable=False)
        return self._ask(WebhookTest, call)

    def deliveries(self, **filters: str) -> Iterator[Delivery]:
        """Yield deliveries, newest first; by ``job_id``, ``endpoint_id`` and ``state``."""
        call = Call("GET", "/webhooks/deliveries", {"limit": 100, **filters})
        return self._runner.iterate(self._core.pages(DeliveryPage, call, "deliveries"))

    def replay(self, delivery_id: str) -> Delivery:
        """Send an event again."""
        call = Call(
            "POST", path_of("webhooks", "deliveries", delivery_id, "replay"), repeatable=False
        )
        return self._ask(Delivery, call)

    def _ask(self, kind: type[AnyModel], call: Call) -> AnyModel:
        return self._runner.run(self._core.ask(kind, call))
