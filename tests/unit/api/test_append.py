"""Appending with a store and a database that are only imagined: what waits for what."""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from anyio import CapacityLimiter

from api.uploads import append
from api.uploads.append import Append
from shared.infra.errors import OffsetMismatch, StorageUnavailable

PART = 1024


class Imagined:
    """Transfers that keep what they are told."""

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.committed: list[int] = []
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.is_overtaken = False

    def multipart(self, _: object) -> "Imagined":
        return self

    def send(self, number: int, _: bytes) -> None:
        if self.is_overtaken:
            raise StorageUnavailable("the object store refused a request (NoSuchUpload)")
        self.parts.append(number)

    def commit(self, _: object, stop: int) -> None:
        assert self.may_commit.wait(30)
        if self.is_overtaken:
            raise OffsetMismatch("another append has begun")
        self.committed.append(stop)

    def keep_tail(self, _: object, offset: int, tail: bytes) -> None:
        assert len(tail) == offset % PART
        self.committed.append(offset)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append, "PART_BYTES", PART)
    monkeypatch.setattr(append, "COMMIT_BYTES", 4 * PART)


def append_to(transfers: Any, data: AsyncIterator[bytes]) -> None:
    """Append to an upload that stays open."""
    upload: Any = SimpleNamespace(id=uuid4(), offset_bytes=0, size_bytes=100 * PART)

    async def run() -> None:
        threads = CapacityLimiter(8)
        appending = Append(transfers, upload, sha256=None, checksum=None, threads=threads)
        async with asyncio.timeout(30):
            await appending.append(data)

    asyncio.run(run())


@pytest.mark.parametrize("commit_s", [0.0, 3600.0])
def test_parts_are_sent_while_an_offset_is_being_committed(
    monkeypatch: pytest.MonkeyPatch, commit_s: float
) -> None:
    monkeypatch.setattr(append, "COMMIT_S", commit_s)
    transfers = Imagined()
    transfers.may_commit.clear()

    async def data() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield bytes(PART)
        transfers.may_commit.set()
        yield bytes(PART)

    append_to(transfers, data())
    assert sorted(transfers.parts) == [1, 2, 3, 4, 5, 6]
    assert transfers.committed == sorted({*transfers.committed})
    assert transfers.committed[-1] == 6 * PART


def test_what_waits_for_its_commit_is_bounded_however_fast_parts_come() -> None:
    transfers = Imagined()

    async def data() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(PART)
            await asyncio.sleep(0)

    append_to(transfers, data())
    gaps = [b - a for a, b in zip([0, *transfers.committed], transfers.committed, strict=False)]
    assert max(gaps[:-1]) <= 4 * PART  # the last has what was in flight at the end, too
    assert transfers.committed[-1] == 40 * PART


def test_parts_that_come_within_a_moment_share_a_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(append, "COMMIT_S", 3600.0)
    monkeypatch.setattr(append, "COMMIT_BYTES", 100 * PART)
    transfers = Imagined()

    async def data() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield bytes(PART)

    append_to(transfers, data())
    assert transfers.committed == [PART, 40 * PART]


def test_a_part_that_an_overtaken_append_cannot_send_is_told_as_such() -> None:
    transfers = Imagined()

    async def data() -> AsyncIterator[bytes]:
        transfers.is_overtaken = True
        for _ in range(5):
            yield bytes(PART)

    with pytest.raises(OffsetMismatch):
        append_to(transfers, data())
    assert transfers.committed == []
