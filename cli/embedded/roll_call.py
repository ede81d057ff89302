"""Which services of a stack are ready, as its API tells."""

import http.client
import json
import math
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

ROLL_AGE_S = 0.1
"""Age up to which an answer is used again, so that one round of polling asks the API once."""


class RollCall:
    """The workers registered since the stack's start, as the API's ``/health/status`` has them."""

    def __init__(self, api_url: str) -> None:
        self._address = api_url.removeprefix("http://")
        self._began = datetime.now(UTC)
        self._asked_s = -math.inf
        self._status: dict[str, Any] = {}

    def api(self) -> bool:
        """Whether the API answers and reaches the three servers."""
        return bool(self._ask().get("status") == "ready")

    def worker(self, role: str, model: str | None = None) -> bool:
        """Whether a worker of that role (and model) takes messages."""
        workers = self._ask().get("workers") or ()
        return any(
            w["role"] == role
            and w["model"] == model
            and w["state"] == "ready"
            # A killed worker of an earlier run stays registered until its heartbeat is old.
            and datetime.fromisoformat(w["started_at"]) >= self._began
            for w in workers
        )

    def _ask(self) -> dict[str, Any]:
        if time.monotonic() - self._asked_s > ROLL_AGE_S:
            self._status = _get_json(self._address, "/health/status")
            self._asked_s = time.monotonic()
        return self._status


def _get_json(address: str, path: str) -> dict[str, Any]:
    """Return the body, {} where there is none. http.client is quicker to import than httpx."""
    connection = http.client.HTTPConnection(address, timeout=1.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return body if response.status == HTTPStatus.OK else {}
