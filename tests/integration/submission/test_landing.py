"""Landing: what an iterator yields is in the object store whole, or nothing of it is."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from anyio import CapacityLimiter

from api.intake.landing import PARTS_IN_FLIGHT, Cleanups, Landed, Landing
from harness.servers.api_server import stored
from shared.infra.errors import EmptyFile, StorageUnavailable, UploadTooLarge
from shared.infra.storage import PART_BYTES, Storage, Upload

MIB = 1024**2


class Log:
    """What the landing has called, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self) -> None:
        self.calls.append("begin")

    def abandon(self) -> None:
        self.calls.append("abandon")

    def claim(self, landed: Landed) -> Landed:
        self.calls.append("claim")
        return landed


@pytest.fixture
def key() -> str:
    return f"tests/{uuid4()}"


@pytest.fixture
def log() -> Log:
    return Log()


def landing(
    storage: Storage,
    key: str,
    log: Log,
    cleanups: Cleanups | None = None,
    max_bytes: int = 99 * MIB,
) -> Landing:
    return Landing(
        storage,
        key,
        max_bytes=max_bytes,
        threads=CapacityLimiter(8),
        begin=log.begin,
        abandon=log.abandon,
        cleanups=cleanups or Cleanups(),
    )


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize(
    "n_bytes", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 4 * PART_BYTES + 17]
)
@pytest.mark.parametrize("size", [1_000_003, 20 * MIB])
def test_what_is_landed_reads_back_as_it_came(
    storage: Storage, key: str, log: Log, n_bytes: int, size: int
) -> None:
    data = os.urandom(n_bytes)

    async def scenario() -> Landed:
        return await landing(storage, key, log).land(pieces(data, size), log.claim)

    assert asyncio.run(scenario()) == Landed(n_bytes, hashlib.sha256(data).hexdigest())
    assert storage.read(key, 0, n_bytes + 1) == data
    assert log.calls == ["begin", "claim"]


def test_a_small_file_costs_one_request(
    storage: Storage, key: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    storage._client.meta.events.register(
        "before-send.s3", lambda event_name, **_: requests.append(event_name.split(".")[-1])
    )

    async def scenario() -> None:
        await landing(storage, key, log).land(pieces(b"audio", 2), log.claim)

    asyncio.run(scenario())
    assert requests == ["PutObject"]


def test_parts_are_received_while_others_are_sent_and_no_more_than_may_wait(
    storage: Storage, key: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_send = threading.Event()
    send = Upload.send

    def held(upload: Upload, number: int, data: bytes | bytearray) -> None:
        assert may_send.wait(60)
        send(upload, number, data)

    monkeypatch.setattr(Upload, "send", held)
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(6 * PART_BYTES // MIB):
            taken += MIB
            yield bytes(MIB)

    async def scenario() -> Landed:
        task = asyncio.ensure_future(landing(storage, key, log).land(source(), log.claim))
        # As long as nothing can be sent, this much is taken, and the next piece waits.
        limit = (PARTS_IN_FLIGHT + 1) * PART_BYTES + MIB
        while taken < limit:
            await asyncio.sleep(0.01)
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert taken == limit
        may_send.set()
        return await task

    assert asyncio.run(scenario()).n_bytes == 6 * PART_BYTES


@pytest.mark.parametrize("n_bytes", [5, 3 * PART_BYTES])
def test_a_source_that_fails_leaves_nothing(
    storage: Storage, key: str, log: Log, n_bytes: int
) -> None:
    before = stored(storage)

    async def failing() -> AsyncIterator[bytes]:
        yield bytes(n_bytes)
        raise ConnectionResetError

    async def scenario() -> None:
        with pytest.raises(ConnectionResetError):
            await landing(storage, key, log).land(failing(), log.claim)

    asyncio.run(scenario())
    assert stored(storage) == before
    assert log.calls in ([], ["begin", "abandon"])


@pytest.mark.parametrize("n_bytes", [5, 2 * PART_BYTES])
def test_a_file_that_nobody_claims_is_abandoned(
    storage: Storage, key: str, log: Log, n_bytes: int
) -> None:
    def refuse(_: Landed) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await landing(storage, key, log).land(pieces(bytes(n_bytes), MIB), refuse)

    asyncio.run(scenario())
    assert log.calls == ["begin", "abandon"]


def test_too_many_bytes_and_none_are_refused(storage: Storage, key: str, log: Log) -> None:
    async def scenario() -> None:
        with pytest.raises(UploadTooLarge, match="larger than 10 bytes"):
            await landing(storage, key, log, max_bytes=10).land(pieces(bytes(11), 2), log.claim)
        with pytest.raises(EmptyFile):
            await landing(storage, key, log).land(pieces(b"", 1), log.claim)

    asyncio.run(scenario())
    assert log.calls == []


def test_a_store_that_keeps_less_than_it_was_sent_is_not_believed(
    storage: Storage, key: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(storage)
    monkeypatch.setattr(Upload, "stored_bytes", lambda _: 7)

    async def scenario() -> None:
        cleanups = Cleanups()
        with pytest.raises(StorageUnavailable, match="did not keep the whole file"):
            await landing(storage, key, log, cleanups).land(
                pieces(bytes(2 * PART_BYTES), MIB), log.claim
            )
        await cleanups.drain(60)

    asyncio.run(scenario())
    assert stored(storage) == before
    assert log.calls == ["begin", "abandon"]


def test_a_failed_store_s_cleanup_goes_on_after_the_answer(
    storage: Storage, key: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(storage)
    may_abort = threading.Event()
    abort = Upload.abort

    def fail(*_: object) -> None:
        raise StorageUnavailable("the object store cannot be reached")

    def held(upload: Upload) -> None:
        assert may_abort.wait(60)
        abort(upload)

    monkeypatch.setattr(Upload, "send", fail)
    monkeypatch.setattr(Upload, "abort", held)

    async def scenario() -> None:
        cleanups = Cleanups()
        with pytest.raises(StorageUnavailable):
            await landing(storage, key, log, cleanups).land(
                pieces(bytes(4 * PART_BYTES), MIB), log.claim
            )
        assert log.calls == ["begin"], "the answer does not wait for the cleanup"
        may_abort.set()
        await cleanups.drain(60)

    asyncio.run(scenario())
    assert log.calls == ["begin", "abandon"]
    assert stored(storage) == before


def test_a_cancelled_upload_leaves_nothing_and_waits_for_the_threads(
    storage: Storage, key: str, log: Log
) -> None:
    before = stored(storage)

    async def silent() -> AsyncIterator[bytes]:
        yield bytes(2 * PART_BYTES)
        await asyncio.Event().wait()

    async def scenario() -> None:
        task = asyncio.ensure_future(landing(storage, key, log).land(silent(), log.claim))
        while "begin" not in log.calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert stored(storage) == before
    assert log.calls == ["begin", "abandon"]
