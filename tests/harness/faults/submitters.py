"""Clients that submit files over HTTP until they are told that they were accepted."""

import base64
import hashlib
import io
import random
import threading
import time
import wave
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import httpx
import numpy as np

from harness.faults.faulty_worker import CRASHES, HANGS
from harness.faults.history import Recording
from harness.peers.moods import Moods
from harness.servers.api_server import part
from shared.speech.audio.rate import SAMPLE_RATE
from worker.engines.oracle import encode, word_text

_PATIENCE_S = 120.0
"""How long a client goes on trying."""
_PAUSE_S = 0.3
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
_HIGHEST = 40_000
"""Words above it are nobody's, but for those that hurt."""


@dataclass(frozen=True, slots=True)
class Work:
    """One file to submit."""

    numbers: tuple[int, ...]
    cancels: bool = False
    """Its client cancels it soon after."""
    retries: bool = False
    """Its client wants it after all, when it has been canceled."""
    webhook: str | None = None
    """Who is to be told of its end."""

    @property
    def recording(self) -> Recording:
        """What is said in it, and how its job has to end."""
        said = " ".join(map(word_text, self.numbers))
        if {CRASHES, HANGS} & {*self.numbers}:
            # What fails is what the last attempt met, and that may have been another fault.
            codes = frozenset({"poisonous_input", "storage_unavailable"})
            return Recording(said, frozenset({"failed"}), codes)
        return Recording(said)

    def file(self) -> bytes:
        """Return it as a WAV of 8 bits: small, and clear enough for the oracle."""
        samples, _ = encode(self.numbers, gap_s=0.15)
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(1)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(np.round(samples * 127 + 128).astype(np.uint8).tobytes())
        return buffer.getvalue()


def make_works(
    rng: random.Random, count: int, *, crashing: int, hanging: int, tell: Moods
) -> list[Work]:
    """Return files of a few seconds, each unlike the others, and some special ones among them.

    One in twenty-five takes more than one chunk, one in twelve is canceled by its client and every
    other one of these retried, one in twenty is the same as the one before it; ``crashing`` and
    ``hanging`` ones hurt the model. One in five tells a receiver of its end, mostly one that takes
    what it gets.
    """
    works: list[Work] = []
    for number in range(count):
        first = number * 3 % _HIGHEST
        n_words = rng.randint(150, 220) if number % 25 == 7 else rng.randint(4, 16)
        # Two that begin alike differ in their second word.
        numbers = (first, number // _HIGHEST, *range(first + 1, first + n_words))
        works.append(Work(numbers, cancels=number % 12 == 5, retries=number % 24 == 5))
        if number % 20 == 11:
            works[-1] = Work(works[-2].numbers)
    places = rng.sample(range(count // 4), crashing + hanging)
    unkind = (tell.slow, tell.hanging, tell.refusing, tell.redirecting)
    for number in range(0, count, 5):
        # Four of each of those: an event that hangs keeps its worker busy for as long as it may.
        rank = number // 5
        url = unkind[rank % 4] if rank < 4 * 4 else tell.kind
        works[number] = replace(works[number], webhook=url)
    for place, hurt in zip(places, [CRASHES] * crashing + [HANGS] * hanging, strict=True):
        works[place] = replace(
            works[place], numbers=(place, hurt, place + 1), cancels=False, retries=False
        )
    return works


@dataclass(slots=True)
class Crowd:
    """Clients in threads of their own, who submit as much as they are allowed to."""

    url: str
    works: Sequence[Work]
    rng: random.Random
    accepted: set[UUID] = field(default_factory=set)
    canceled: set[UUID] = field(default_factory=set)
    recordings: dict[str, Recording] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _queue: deque[Work] = field(default_factory=deque)
    _allowed: int = 0
    _closed: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, n_threads: int) -> None:
        """Begin; nobody submits before ``allow``."""
        self._queue.extend(self.works)
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(self.rng.random()),))
            for _ in range(n_threads)
        ]
        for thread in self._threads:
            thread.start()

    def allow(self, n_files: int) -> None:
        """Let so many more files be submitted."""
        with self._changed:
            self._allowed += n_files
            self._changed.notify_all()

    def close(self) -> None:
        """Allow no more: the clients go when they have submitted what they may."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        """Whether everything was submitted, or somebody gave up."""
        return not any(thread.is_alive() for thread in self._threads)

    def give_up(self) -> None:
        """End the threads."""
        self._queue.clear()
        self.close()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def submit(
        self, client: httpx.Client, work: Work, *, interruption: "Interruption | None" = None
    ) -> UUID:
        """Submit a file, as often as it takes; return the accepted job's id."""
        data = work.file()
        self.recordings[hashlib.sha256(data).hexdigest()] = work.recording
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        fields = {"webhook_url": work.webhook, "webhook_secret": SECRET} if work.webhook else {}
        form = b"".join(part(name, value) for name, value in fields.items())
        body = form + part("file") + data + b"\r\n--b--\r\n"
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            interrupted, interruption = interruption, None
            content = interrupted.feed(body) if interrupted else body
            try:
                answer = client.post("/jobs", content=content, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                job_id = UUID(answer.json()["id"])
                self.accepted.add(job_id)
                return job_id
            if answer is not None and answer.status_code < 500:
                raise AssertionError(f"refused: {answer.text}")
            if interrupted:
                interrupted.refused = True
            time.sleep(_PAUSE_S)
        raise AssertionError("nobody accepted a file")

    def cancel(self, client: httpx.Client, job_id: UUID) -> bool:
        """Cancel a job, unless it has ended by itself: then return False."""
        answer = self._insist(client, f"/jobs/{job_id}/cancel")
        if answer.status_code == 200:
            self.canceled.add(job_id)
        return answer.status_code == 200

    def retry(self, client: httpx.Client, job_id: UUID) -> None:
        """Have a canceled job taken up again, unless a request without an answer has done so."""
        self._insist(client, f"/jobs/{job_id}/retry")
        self.canceled.discard(job_id)

    def _insist(self, client: httpx.Client, path: str) -> httpx.Response:
        """Ask for a change of a job until there is an answer: it is made, or it conflicts."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            try:
                answer = client.post(path)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code in (200, 202, 409):
                return answer
            if answer is not None and answer.status_code < 500:
                raise AssertionError(f"refused: {answer.text}")
            time.sleep(_PAUSE_S)
        raise AssertionError(f"nobody answered to {path}")

    def _next(self) -> Work | None:
        """Wait until one more file may be submitted; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._allowed or self._closed or not self._queue)
            if not self._allowed or not self._queue:
                return None
            self._allowed -= 1
            return self._queue.popleft()

    def _run(self, rng: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while (work := self._next()) is not None:
                try:
                    job_id = self.submit(client, work)
                    if work.cancels:
                        time.sleep(rng.uniform(0, 0.5))
                        if self.cancel(client, job_id) and work.retries:
                            self.retry(client, job_id)
                except AssertionError as error:
                    self.errors.append(str(error))


@dataclass(slots=True)
class Interruption:
    """An upload that is stuck half way until something has happened."""

    half_sent: threading.Event = field(default_factory=threading.Event)
    happened: threading.Event = field(default_factory=threading.Event)
    refused: bool = False
    """Whether the upload was not accepted."""

    def feed(self, body: bytes) -> Iterator[bytes]:
        """Yield the body in two halves, with a wait between them."""
        yield body[: len(body) // 2]
        self.half_sent.set()
        self.happened.wait(_PATIENCE_S)
        yield body[len(body) // 2 :]
