"""The object store on a real S3 server."""

import io
import os
import uuid

import av
import numpy as np
import pytest

from shared.infra.errors import StorageUnavailable
from shared.infra.storage import PART_BYTES, Storage
from shared.speech.chunks import SAMPLE_RATE
from worker.steps.pcm import PIECE_SAMPLES, PieceWriter, read_pcm


@pytest.fixture
def key() -> str:
    return f"tests/{uuid.uuid4()}"


@pytest.mark.parametrize("n_bytes", [1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 17])
def test_an_upload_reads_back_as_written(storage: Storage, key: str, n_bytes: int) -> None:
    data = os.urandom(n_bytes)
    upload = storage.start_upload(key)
    for start in range(0, n_bytes, 1_000_003):
        upload.write(data[start : start + 1_000_003])
    upload.finish()
    assert storage.size(key) == n_bytes
    assert storage.read(key, 0, n_bytes + 1) == data


def test_an_aborted_upload_leaves_no_object(storage: Storage, key: str) -> None:
    upload = storage.start_upload(key)
    upload.write(bytes(PART_BYTES + 1))
    upload.abort()
    with pytest.raises(StorageUnavailable):
        storage.size(key)


def test_a_range_is_exactly_its_bytes(storage: Storage, key: str) -> None:
    data = os.urandom(100_000)
    storage.put(key, data)
    assert storage.read(key, 777, 4321) == data[777:4321]
    assert storage.read(key, 5, 5) == b""


def test_the_reader_seeks_like_a_file(storage: Storage, key: str) -> None:
    data = os.urandom(9_000_000)
    storage.put(key, data)
    with storage.open(key) as reader:
        assert reader.read(10) == data[:10]
        assert reader.seek(-7, io.SEEK_END) == len(data) - 7
        assert reader.read() == data[-7:]
        reader.seek(4_500_000)
        assert reader.read(5_000_000) == data[4_500_000:]


def test_a_deleted_prefix_takes_its_objects_and_no_others(storage: Storage, key: str) -> None:
    for name in ("a/1", "a/2", "b/1"):
        storage.put(f"{key}/{name}", b"x")
    storage.delete_prefix(f"{key}/a/")
    assert storage.size(f"{key}/b/1") == 1
    with pytest.raises(StorageUnavailable):
        storage.size(f"{key}/a/1")


def test_an_absent_store_is_told_without_naming_it(key: str) -> None:
    absent = Storage("http://KEY:SECRET@127.0.0.1:1/bucket")
    with pytest.raises(StorageUnavailable) as raised:
        absent.put(key, b"")
    assert "SECRET" not in str(raised.value)
    assert "127.0.0.1" not in str(raised.value)


def test_a_url_without_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="BUCKET"):
        Storage("http://127.0.0.1:9000")


def test_pcm_reads_back_across_piece_borders(storage: Storage) -> None:
    job_id = uuid.uuid4()
    pcm = np.random.default_rng(0).integers(-32768, 32767, PIECE_SAMPLES + 5000, dtype=np.int16)
    writer = PieceWriter(storage, job_id)
    for start in range(0, len(pcm), SAMPLE_RATE):
        writer.write(pcm[start : start + SAMPLE_RATE])
    assert writer.stored_samples == PIECE_SAMPLES
    writer.finish()
    assert writer.stored_samples == len(pcm)
    start, end = PIECE_SAMPLES - 1234, PIECE_SAMPLES + 4321
    read = read_pcm(storage, job_id, start, end)
    assert read.dtype == np.float32
    assert np.array_equal(read * 32768, pcm[start:end])


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
    with storage.open(key) as reader, av.open(reader) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 16_000
