"""Which services of a stack have reported for duty, asked of its API."""

import http.client
import json
import math
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

ROLL_AGE_S = 0.05
"""How old an answer to the roll call may be; less than a round of polling and asking takes."""


class RollCall:
    """Who answers the roll call of a stack, as the API's ``/health/status`` knows it."""

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
            # A worker that was killed stays on the roll until its last heartbeat is too old.
            and datetime.fromisoformat(w["started_at"]) >= self._began
            for w in workers
        )

    def _ask(self) -> dict[str, Any]:
        # Several children are asked about in one round of polling.
        if time.monotonic() - self._asked_s > ROLL_AGE_S:
            self._status = _get_json(self._address, "/health/status")
            self._asked_s = time.monotonic()
        return self._status


def _get_json(address: str, path: str) -> dict[str, Any]:
    """Return the body, empty where there is none; not by httpx, which takes longer to import."""
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
