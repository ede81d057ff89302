"""What the embedded stack sets for its services."""

import pytest

from cli.embedded.servers import Endpoints
from cli.embedded.services import ALLOCATION, service_environment

ENDPOINTS = Endpoints("owner", "api", "worker", "broker", "storage")


def test_embedded_stack_keeps_listening_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGHAND_KEEP_LISTENING_S", raising=False)

    assert service_environment(ENDPOINTS)["LONGHAND_KEEP_LISTENING_S"] == "inf"


def test_a_user_may_have_no_listening_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAND_KEEP_LISTENING_S", "0")

    assert service_environment(ENDPOINTS)["LONGHAND_KEEP_LISTENING_S"] == "0"


def test_services_have_large_pages_and_one_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALLOCATION:
        monkeypatch.delenv(name, raising=False)

    assert service_environment(ENDPOINTS).items() >= ALLOCATION.items()


def test_a_user_may_allocate_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")

    assert service_environment(ENDPOINTS)["MALLOC_ARENA_MAX"] == "4"
