"""The object store on a real S3 server."""

import hashlib
import io
import logging
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import av
import numpy as np
import pytest

from harness.servers.api_server import relayed, stored
from shared.infra.errors import StorageUnavailable
from shared.infra.settings import Settings
from shared.infra.storage import PART_BYTES, Storage
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk
from worker.steps.pcm import PIECE_SAMPLES, PieceWriter, read_pcm


def keys_of(storage: Storage, job_id: uuid.UUID) -> set[str]:
    return {key for key in stored(storage) if str(job_id) in key}


@pytest.fixture
def key() -> str:
    return f"tests/{uuid.uuid4()}"


def test_parts_that_threads_send_at_once_read_back_in_their_order(
    storage: Storage, key: str
) -> None:
    data = os.urandom(4 * PART_BYTES + 17)
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    upload = storage.start_upload(key)
    with ThreadPoolExecutor(len(parts)) as threads:
        sent = [
            threads.submit(upload.send, number, bytearray(part))
            for number, part in reversed([*enumerate(parts, 1)])
        ]
    for each in sent:
        each.result()
    assert upload.stored_bytes() == len(data)
    upload.finish()
    assert storage.read(key, 0, len(data) + 1) == data


def test_an_aborted_upload_leaves_nothing(storage: Storage, key: str) -> None:
    before = stored(storage)
    upload = storage.start_upload(key)
    upload.send(1, bytes(PART_BYTES))
    assert stored(storage) - before
    upload.abort()
    assert stored(storage) == before
    with pytest.raises(StorageUnavailable):
        storage.read(key, 0, 1)


def test_a_small_object_that_was_changed_on_the_way_is_not_stored(
    storage: Storage, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.infra.storage.hashlib.md5", partial(_hash_of, b"sent"))
    with pytest.raises(StorageUnavailable, match="BadDigest"):
        storage.put(key, b"received")
    with pytest.raises(StorageUnavailable):
        storage.read(key, 0, 1)


def _hash_of(data: bytes, *_: object, usedforsecurity: bool) -> "hashlib._Hash":
    return hashlib.new("md5", data, usedforsecurity=usedforsecurity)


def test_a_range_is_exactly_its_bytes(storage: Storage, key: str) -> None:
    data = os.urandom(100_000)
    storage.put(key, data)
    assert storage.read(key, 777, 4321) == data[777:4321]
    assert storage.read(key, 5, 5) == b""


def test_an_object_is_streamed_in_blocks(storage: Storage, key: str) -> None:
    data = os.urandom(600_000)
    storage.put(key, data)
    blocks = list(storage.stream(key))
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 256 * 1024
    with pytest.raises(StorageUnavailable, match="NoSuchKey"):
        next(storage.stream(f"{key}-not-there"))


def test_the_reader_seeks_like_a_file(storage: Storage, key: str) -> None:
    data = os.urandom(9_000_000)
    storage.put(key, data)
    with storage.open(key, len(data)) as reader:
        assert reader.read(10) == data[:10]
        assert reader.seek(-7, io.SEEK_END) == len(data) - 7
        assert reader.read() == data[-7:]
        reader.seek(4_500_000)
        assert reader.read(5_000_000) == data[4_500_000:]


def test_a_prefix_goes_with_three_requests_and_known_keys_with_one(
    storage: Storage, key: str
) -> None:
    for name in "abcd":
        storage.put(f"{key}/{name}", b"x")
    requests: list[str] = []
    count(storage, requests)
    storage.delete([f"{key}/a", f"{key}/b", f"{key}/none"])
    assert requests == ["DeleteObjects"]
    storage.delete_prefix(f"{key}/")
    assert requests[1:] == ["ListMultipartUploads", "ListObjectsV2", "DeleteObjects"]
    storage.delete_prefix(f"{key}/")
    assert requests[4:] == ["ListMultipartUploads", "ListObjectsV2"], "there is nothing left"
    assert not {each for each in stored(storage) if key in each}


def test_more_keys_than_a_request_may_name_are_deleted(storage: Storage, key: str) -> None:
    keys = [f"{key}/{number}" for number in range(1001)]
    storage.put(keys[0], b"x")
    storage.put(keys[-1], b"x")
    storage.delete(keys)
    assert not {each for each in stored(storage) if key in each}


def count(storage: Storage, requests: list[str]) -> None:
    """Note the name of each request from now on."""
    storage._client.meta.events.register(
        "before-send.s3", lambda event_name, **_: requests.append(event_name.split(".")[-1])
    )


def test_a_deleted_prefix_takes_its_objects_and_no_others(storage: Storage, key: str) -> None:
    for name in ("a/1", "a/2", "b/1"):
        storage.put(f"{key}/{name}", b"x")
    storage.delete_prefix(f"{key}/a/")
    assert storage.read(f"{key}/b/1", 0, 9) == b"x"
    with pytest.raises(StorageUnavailable):
        storage.read(f"{key}/a/1", 0, 9)


def test_a_frozen_store_is_given_up_after_the_attempts_and_their_timeouts(
    servers: Settings, key: str
) -> None:
    with relayed(servers, "storage_url") as (frozen, relay):
        relay.mute()
        storage = Storage(frozen.storage_url.get_secret_value(), read_timeout_s=0.2, attempts=2)
        requests: list[str] = []
        count(storage, requests)
        with pytest.raises(StorageUnavailable):
            storage.read(key, 0, 1)
    assert requests == ["GetObject", "GetObject"]


def test_connections_are_kept_for_as_many_threads_as_the_process_says(
    servers: Settings, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage(servers.storage_url.get_secret_value(), connections=40)
    storage.put(key, b"x")
    together = threading.Barrier(40)

    def read(_: int) -> bytes:
        together.wait(60)
        return storage.read(key, 0, 1)

    with ThreadPoolExecutor(40) as threads, caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert set(threads.map(read, range(40))) == {b"x"}
    assert "Connection pool is full" not in caplog.text


def test_an_absent_store_is_told_without_naming_it(key: str) -> None:
    absent = Storage("http://KEY:SECRET@127.0.0.1:1/bucket")
    with pytest.raises(StorageUnavailable) as raised:
        absent.put(key, b"")
    assert "SECRET" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


def test_chunks_read_back_across_piece_borders_and_what_is_between_them_is_not_stored(
    storage: Storage,
) -> None:
    job_id = uuid.uuid4()
    piece, second = PIECE_SAMPLES, SAMPLE_RATE
    pcm = np.random.default_rng(0).integers(-32768, 32767, 2 * piece, dtype=np.int16)
    writer = PieceWriter(storage, job_id)
    bounds = [
        (second, 101 * second),
        (99 * second, 150 * second),  # overlaps the one before
        (160 * second + 7, 210 * second),  # goes over the border of a piece
    ]
    kept = []
    for start in range(0, len(pcm), SAMPLE_RATE):
        writer.write(pcm[start : start + SAMPLE_RATE])
        while len(kept) < len(bounds) and bounds[len(kept)][1] <= start + SAMPLE_RATE:
            chunk = Chunk(len(kept), *bounds[len(kept)], 0, 0)
            kept.append(replace(chunk, stored_at=writer.keep(chunk)))
        writer.forget_before(bounds[len(kept)][0] if len(kept) < len(bounds) else start)
    writer.finish()

    assert writer.kept_samples == 149 * second + 50 * second - 7
    sizes = {key[-11:]: len(storage.read(key, 0, 8 * piece)) for key in keys_of(storage, job_id)}
    assert sum(sizes.values()) == 2 * writer.kept_samples
    for chunk in kept:
        read = read_pcm(storage, job_id, chunk)
        assert read.dtype == np.float32
        assert np.array_equal(read * 32768, pcm[chunk.start : chunk.end])


def test_a_chunk_after_long_silence_does_not_keep_those_before_it_waiting(
    storage: Storage,
) -> None:
    writer = PieceWriter(storage, uuid.uuid4())
    writer.write(np.ones(PIECE_SAMPLES + 2 * SAMPLE_RATE, np.int16))
    first = Chunk(0, 0, SAMPLE_RATE, 0, 0)
    assert writer.keep(first) == 0
    writer.forget_before(SAMPLE_RATE)
    assert writer.stored_samples == 0
    writer.forget_before(PIECE_SAMPLES)
    assert writer.stored_samples == PIECE_SAMPLES
    later = Chunk(1, PIECE_SAMPLES + SAMPLE_RATE, PIECE_SAMPLES + 2 * SAMPLE_RATE, 0, 0)
    assert writer.keep(later) == PIECE_SAMPLES
    assert writer.kept_samples == 2 * SAMPLE_RATE


def test_a_container_with_its_index_at_the_end_decodes_from_the_store(
    storage: Storage, key: str
) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 16_000), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    storage.put(key, buffer.getvalue())
    with storage.open(key, buffer.tell()) as reader, av.open(reader) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 16_000
