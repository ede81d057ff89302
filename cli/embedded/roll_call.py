"""Asks a stack's API which services are ready."""

import json
import math
import time
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

from cli.embedded.registry import Registry

ROLL_AGE_S = 0.1
"""How long an answer is used, so that one round of polling asks the API once."""


class RollCall:
    """What ``/health/status`` says; workers that were started before this object do not count.

    Where the API asks for keys, this process has none: ``/health/ready`` is open to all, and the
    registry knows the workers.
    """

    def __init__(self, api_url: str, registry: Registry | None) -> None:
        self._address = api_url.removeprefix("http://")
        self._registry = registry
        self._began = datetime.now(UTC)
        self._asked_s = -math.inf
        self._status: dict[str, Any] = {}

    def api(self) -> bool:
        """Whether the API answers and reaches the three servers."""
        return bool(self._ask().get("status") == "ready")

    def worker(self, role: str, model: str | None = None) -> bool:
        """Whether a worker of that role (and model) takes messages."""
        return any(
            (w["role"], w["model"]) == (role, model)
            and w["state"] in ("ready", "unloaded")
            # A killed worker of an earlier run stays registered for a while.
            and w["started_at"] >= self._began
            for w in self._ask().get("workers") or ()
        )

    def _ask(self) -> dict[str, Any]:
        if time.monotonic() - self._asked_s > ROLL_AGE_S:
            self._status = self._get()
            self._asked_s = time.monotonic()
        return self._status

    def _get(self) -> dict[str, Any]:
        """Return the status, {} if there is none."""
        if self._registry is None:
            status = self._read("/health/status")
            for worker in status.get("workers") or ():
                worker["started_at"] = datetime.fromisoformat(worker["started_at"])
            return status
        workers = self._registry.workers() or ()
        return self._read("/health/ready") | {"workers": list(map(asdict, workers))}

    def _read(self, path: str) -> dict[str, Any]:
        """Return what the API answers, {} if it is not 200. Importing httpx would take 0.1 s."""
        with closing(HTTPConnection(self._address, timeout=1.0)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                status: dict[str, Any] = json.loads(response.read())
            except (OSError, HTTPException, ValueError):
                return {}
        return status if response.status == HTTPStatus.OK else {}
