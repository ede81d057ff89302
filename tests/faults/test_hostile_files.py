"""Files made to do harm, through real workers: each job fails for its own reason, and no more."""

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import add_stored_job
from harness.jobs.transcripts import get_transcript
from harness.media.recipes import encode, ten_hours_of_silence, wav
from harness.programs.workers import Fleet, Worker, fleet, wait_until
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.jobs.read import JobView, get_job
from shared.store.workers import live_workers
from worker.engines.oracle import encode as encode_words


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(
        settings.model_copy(update={"max_duration_s": 60.0, "sweep_s": 0.5}), tmp_path
    ) as started:
        yield started


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def pids(worker: Worker) -> set[int]:
    """The worker's processes, without decoders, each of which ends with its file."""
    process = psutil.Process(worker.process.pid)
    pool_and_server = process.children()
    return {process.pid, *(child.pid for child in pool_and_server)}


def test_hostile_files_fail_their_own_jobs_and_leave_the_workers_as_they_were(
    database: Engine, storage: Storage, workers: Fleet, server: socket.socket, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(np.full(16_000, 9000, np.int16)))
    url = f"http://127.0.0.1:{server.getsockname()[1]}/a.wav"
    whole_mp4 = encode("mp4 with pictures")
    hostile = {
        b"#EXTM3U\n#EXTINF:9,\n%b\n#EXT-X-ENDLIST\n" % url.encode(): "unreadable_media",
        b"ffconcat version 1.0\nfile 'file:%b'\n" % bytes(secret): "unreadable_media",
        wav(np.zeros(1000, np.int16), rate=1): "audio_out_of_bounds",
        wav(np.zeros(1000, np.int16), rate=10**9): "audio_out_of_bounds",
        wav(np.zeros(64_000, np.int16), channels=64): "audio_out_of_bounds",
        whole_mp4[: len(whole_mp4) // 2]: "truncated_media",
        ten_hours_of_silence(): "audio_too_long",
        np.random.default_rng(1).bytes(200_000): "unreadable_media",
    }
    workers.start("beat")
    cpu = workers.start("cpu", "--concurrency", "1")
    model = workers.start("model", "--model", "oracle")

    def submit(data: bytes) -> UUID:
        return add_stored_job(database, storage, data)

    def ended(job_id: UUID) -> JobView:
        wait_until(lambda: get_job(database, "default", job_id).state in ("succeeded", "failed"))
        return get_job(database, "default", job_id)

    samples, _ = encode_words(range(1000, 1005), gap_s=0.3)
    good = wav((samples * 32767).astype(np.int16))
    assert ended(submit(good)).state == "succeeded"
    before = pids(cpu) | pids(model)

    jobs = [submit(data) for data in hostile]
    last = submit(good)

    for job, code in zip(map(ended, jobs), hostile.values(), strict=True):
        assert (job.state, job.error_code) == ("failed", code)
        assert job.error_detail is not None
        assert job.error_detail.count(". ") == 0, "one sentence"
        assert "127.0.0.1" not in job.error_detail
    assert ended(last).state == "succeeded"
    heard = get_transcript(database, "default", last).text
    assert heard == "w01000 w01001 w01002 w01003 w01004"
    assert pids(cpu) | pids(model) == before, "no process was lost, none was replaced"
    assert "Traceback" not in cpu.log
    (sandbox,) = (
        worker.sandbox for worker in live_workers(database, live_s=30) if worker.role == "cpu"
    )
    assert sandbox is not None
    assert "rlimits" in sandbox["holds"]
    assert cpu.log.count("media sandbox: ") == 1
    with pytest.raises(BlockingIOError):
        server.accept()
