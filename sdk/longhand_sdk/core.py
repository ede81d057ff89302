"""Requests that are tried again, and answers that become models or errors."""

import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from longhand_sdk.errors import ANSWERS, APIError, ConnectionFailed, LonghandError, UnexpectedAnswer
from longhand_sdk.flows import Call, Emit, Flow, Pause, send
from longhand_sdk.version import __version__

DEFAULT_URL = "http://127.0.0.1:8000"
RETRY_S = 120.0
"""How long a server that is away or busy is waited for; a restart takes less."""
TIMEOUT_S = 30.0
"""How long a server may say nothing."""
CONNECT_S = 5.0
UPLOAD_TIMEOUT = httpx.Timeout(120.0, connect=CONNECT_S)
"""A server that is full takes a file in after 45 s, and answers when its object store has it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
PASSING = frozenset({408, 429, 502, 503, 504})
"""Statuses of what may succeed later."""

AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Core:
    """What all flows of one client know."""

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        retry_s: float,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Check the address and the key.

        Raises:
            ValueError: the address is no http(s) URL, or the key is none.
        """
        url = base_url
        if url is None:
            url = os.environ.get("LONGHAND_SERVER") or DEFAULT_URL
        host = _host(url)
        if host is None:
            raise ValueError(f"'{url}' is not a server's address: expected http://HOST:PORT")
        if "@" in urlsplit(url).netloc:  # it would go instead of the key, and into messages
            raise ValueError("a server's address has no user's name in it: use an API key")
        self.base_url = url.rstrip("/")
        # A proxy that the environment names cannot reach this machine's loopback.
        self.is_local = host in ("127.0.0.1", "localhost", "::1")
        key = (api_key or os.environ.get("LONGHAND_API_KEY", "")).strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError("the API key has characters that no key has")
        self.headers = {"User-Agent": f"longhand-sdk/{__version__}"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self.retry_s = retry_s
        self.timeout_s = timeout_s
        self.clock = clock
        self.has_answered = False
        """Whether the server has ever answered. A wrong address must not look like an outage."""

    def request(self, call: Call, within_s: float = math.inf) -> Flow[httpx.Response]:
        """Send a request until it is answered, within the time for retries and ``within_s``.

        Raises:
            APIError: the server refuses it.
            ConnectionFailed: the server cannot be reached.
        """
        patience, is_again = Patience(self, within_s), False
        while True:
            failed: LonghandError
            try:
                response = yield from send(call)
            except httpx.RequestError as error:
                failed = self.failed(error)
                if isinstance(error, httpx.LocalProtocolError):  # such as a line break in a header
                    raise failed from error
                # What refuses at the first contact is a wrong address more often than an outage.
                was_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if not (call.repeatable if was_sent else self.has_answered):
                    raise failed from error
            else:
                self.has_answered = True
                # An attempt whose answer was lost may have deleted it.
                is_deleted = is_again and call.method == "DELETE" and response.status_code == 404
                if response.is_success or is_deleted:
                    return response
                failed = self.refusal(response)
                may_repeat = (
                    call.repeatable or response.status_code == httpx.codes.TOO_MANY_REQUESTS
                )
                if not (may_repeat and is_passing(failed)):
                    raise failed
            yield Pause(patience.pause_s(failed))
            is_again = True

    def ask(self, kind: type[AnyModel], call: Call, within_s: float = math.inf) -> Flow[AnyModel]:
        """Send a request as ``request`` does, and return its answer as a model."""
        response = yield from self.request(call, within_s)
        return self.parsed(kind, response.content)

    def pages(self, kind: type[AnyModel], call: Call, items: str) -> Flow[None]:
        """Emit what is listed, page by page; ``items`` is the member that has it."""
        cursor: Mapping[str, Any] = {}
        while True:
            params = {**call.params, **cursor}
            page = yield from self.ask(kind, Call(call.method, call.path, params))
            for item in getattr(page, items):
                yield Emit(item)
            following = getattr(page, "next_cursor")  # noqa: B009 - of all pages
            if following is None:
                return
            cursor = {"cursor": following}

    def parsed(self, kind: type[AnyModel], content: str | bytes) -> AnyModel:
        """Return JSON as a model.

        Raises:
            UnexpectedAnswer: it is something else.
        """
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            raise self.foreign() from error

    def refusal(self, response: httpx.Response) -> APIError:
        """Return the error that an answer means."""
        status = response.status_code
        try:
            problem = response.json()
            code, detail = problem["code"], " ".join(problem["detail"].split())
        except (ValueError, KeyError, TypeError, AttributeError):
            if status in (404, 405) or status < 400:
                return self.foreign(status)
            sentence = f"{self.base_url} answered {status} {response.reason_phrase}"
            return UnexpectedAnswer(sentence, status=status)
        known = {"type", "title", "status", "code", "detail", "instance", "request_id"}
        return ANSWERS.get(code, APIError)(
            detail,
            status=status,
            code=code,
            request_id=problem.get("request_id"),
            retry_after_s=_retry_after_s(response),
            members={name: value for name, value in problem.items() if name not in known},
        )

    def foreign(self, status: int = 200) -> UnexpectedAnswer:
        """Return the error of an answer that no Longhand server gives."""
        sentence = f"{self.base_url} does not answer like a Longhand server"
        return UnexpectedAnswer(sentence, status=status)

    def failed(self, error: httpx.RequestError) -> ConnectionFailed:
        """Return the error of a request that got no answer."""
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
        if "WRONG_VERSION_NUMBER" in reason:  # as OpenSSL says it
            reason = "it does not speak https; try http"
        return ConnectionFailed(f"cannot reach {self.base_url}: {reason}")


class Patience:
    """How long a server that is away or busy is waited for, and when it is asked again."""

    def __init__(self, core: Core, within_s: float = math.inf) -> None:
        self._core = core
        self._limit_s = min(core.retry_s, within_s)
        self._pauses = _pauses()
        self._until: float | None = None

    def end(self) -> None:
        """Take note that the server has answered."""
        self._until, self._pauses = None, _pauses()

    def pause_s(self, error: LonghandError, least_s: float = 0.0) -> float:
        """Return how long to wait after an error.

        Raises:
            LonghandError: the error, if that is longer than the server is waited for.
        """
        now = self._core.clock()
        if self._until is None:
            self._until = now + self._limit_s
        asked_s = error.retry_after_s if isinstance(error, APIError) else None
        # No wait at all would be a busy loop, so 0 s count as no word of the server.
        pause_s = max(least_s, asked_s or next(self._pauses))
        if now + pause_s > self._until:
            raise error
        return pause_s


def path_of(*steps: str) -> str:
    """Return a path; its steps may be of any characters.

    Raises:
        ValueError: a step is empty, so that the path would lead elsewhere.
    """
    if not all(steps):
        raise ValueError("an id is empty")
    dots = {".": "%2E", "..": "%2E%2E"}
    return "".join(f"/{dots.get(step) or quote(step, safe='')}" for step in steps)


def is_passing(error: LonghandError) -> bool:
    """Whether a later attempt may succeed."""
    if isinstance(error, APIError):
        return error.status in PASSING or error.code == "idempotency_key_in_use"
    return isinstance(error, ConnectionFailed)


def _host(url: str) -> str | None:
    """Return the host of a server's address; None: it is none."""
    try:
        httpx.URL(url)  # it has no control characters
        parts = urlsplit(url)
        return parts.hostname if parts.scheme in ("http", "https") and parts.port != 0 else None
    except (ValueError, httpx.InvalidURL):  # a port that is no number, say
        return None


def _pauses() -> Iterator[float]:
    """Yield pauses that double, each a random part of it: clients must not come at once."""
    longest_s = FIRST_PAUSE_S
    while True:
        yield longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        longest_s = min(2 * longest_s, LONGEST_PAUSE_S)


def _retry_after_s(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
