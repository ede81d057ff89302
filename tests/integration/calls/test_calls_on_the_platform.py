"""``POST /transcribe`` on a platform of real processes, whose model reads words from tones."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import requests
from sqlalchemy import Engine, text

from harness.clients.calls import active_jobs, calling, open_call
from harness.faults.submitters import Work
from harness.jobs.webhook_store import on_loopback
from harness.peers.file_server import serving_files
from harness.programs.workers import fleet, wait_until
from harness.servers.api_server import api_process, assert_problem
from shared.infra.settings import Settings
from shared.queue.broker import make_broker
from shared.store.jobs.read import get_job

WORDS = tuple(range(2000, 2012))
"""A few seconds of speech."""


@contextmanager
def platform(settings: Settings, path: Path, **changes: object) -> Iterator[httpx.Client]:
    """Run the API, beat, and a worker of either kind, on an empty broker."""
    with make_broker(settings).connection_for_write() as connection:
        connection.default_channel.client.flushall()
    changed = settings.model_copy(
        update={"lease_s": 3.0, "heartbeat_s": 0.5, "sweep_s": 0.5, **changes}
    )
    with fleet(changed, path) as workers, api_process(changed, path / "api.log") as (client, _):
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        workers.start("model", "--model", "oracle")
        yield client


def test_clients_in_a_line_or_two_get_the_text_of_a_file_or_a_url(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    work = Work(WORDS)
    sound = tmp_path / "talk.wav"
    sound.write_bytes(work.file())
    said = work.recording.text
    with platform(on_loopback(settings), tmp_path) as client, serving_files() as files:
        url = str(client.base_url.join("/transcribe"))
        wait_until(lambda: client.get("/health").json()["model_loaded"])

        with sound.open("rb") as file:
            answer = requests.post(url, files={"file": file}, timeout=120)
        body = answer.json()
        assert answer.status_code == 200, body
        assert (body["text"], body["cache_hit"], body["wer"]) == (said, False, None)
        assert body["chunks_processed"] >= 1
        assert body["gpu_memory_used_mb"] is None

        curl = shutil.which("curl")
        assert curl is not None
        done = subprocess.run(
            [curl, "-sS", "-F", f"file=@{sound}", "-F", f"reference={said} extra", url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        body = json.loads(done.stdout)
        assert (body["text"], body["cache_hit"]) == (said, True)
        assert body["wer"] == round(1 / (len(said.split()) + 1), 4)

        noise = client.post("/transcribe", files={"file": ("a.wav", b"no audio at all")})
        problem = assert_problem(noise, 422, "audio_refused")
        assert problem["error"]["code"] == "unreadable_media"

        elsewhere = files.put("/talk.wav?token=hush", Work((7, *WORDS)).file())
        body = client.post("/transcribe", json={"audio_url": elsewhere}).json()
        assert body["text"] == Work((7, *WORDS)).recording.text
        nowhere = client.post("/transcribe", json={"audio_url": f"{files.base}/no?token=hush"})
        problem = assert_problem(nowhere, 422, "audio_refused")
        assert problem["error"]["code"] == "file_not_at_url"
    logs = [log.read_text() for log in tmp_path.rglob("*.log")]
    assert any("fetch" in log for log in logs)
    assert not any("hush" in log for log in logs)


def test_a_call_is_done_before_the_batch_that_was_there_and_equal_calls_are_one_job(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    n_batch, n_equal = 6, 4
    with (
        calling(settings) as caller,
        fleet(settings.model_copy(update={"sweep_s": 0.5}), tmp_path) as workers,
    ):
        for number in range(n_batch):
            file = {"file": ("a.wav", Work((number, *WORDS)).file())}
            fields = {"priority": "100"}
            assert caller.client.post("/jobs", files=file, data=fields).status_code == 202
        called = [caller.call(audio=Work(WORDS).file()) for _ in range(n_equal)]
        wait_until(lambda: [*caller.waiting().values()] == [n_equal])
        workers.start("beat")
        workers.start("cpu", "--concurrency", "1")
        workers.start("model", "--model", "oracle")
        bodies = [each.result().json() for each in called]
        (job_id,) = {UUID(body["job_id"]) for body in bodies}
        assert {body["text"] for body in bodies} == {Work(WORDS).recording.text}
        wait_until(lambda: count(database, "jobs WHERE state = 'succeeded'") == n_batch + 1)
    with database.begin() as connection:
        first = connection.execute(text("SELECT id FROM jobs ORDER BY started_at LIMIT 1"))
        assert first.scalar_one() == job_id


def test_a_call_whose_client_left_is_canceled_by_the_sweep(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    impatient = settings.model_copy(update={"call_grace_s": 0.6, "sweep_s": 0.2})
    with (
        api_process(impatient, tmp_path / "api.log") as (client, _),
        fleet(impatient, tmp_path) as workers,
    ):
        connection = open_call(str(client.base_url).rstrip("/"))
        (job_id,) = wait_until(lambda: active_jobs(database))
        connection.close()
        workers.start("beat")
        wait_until(lambda: get_job(database, "default", job_id).state == "canceled")
        wait_until(lambda: "stt_active_requests 0.0" in client.get("/metrics").text)


def count(database: Engine, what: str) -> int:
    with database.begin() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {what}")).scalar_one())
