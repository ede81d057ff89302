"""A worker whose Postgres freezes and goes on: it lives, and works again."""

import time
from pathlib import Path

from sqlalchemy import Engine

from harness.programs.workers import fleet, wait_until
from harness.repository.tree import ROOT
from harness.servers.api_server import api
from harness.servers.frozen import frozen_postgres
from shared.infra.settings import Settings
from shared.store.workers import live_workers

SAMPLE = ROOT / "samples" / "hello.wav"


def test_a_worker_survives_a_frozen_postgres_and_works_when_it_goes_on(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    quick = settings.model_copy(update={"heartbeat_s": 0.5})
    with fleet(quick, tmp_path) as workers, api(settings) as client:
        worker = workers.start("cpu", "--concurrency", "1")
        wait_until(lambda: ready(database), within_s=120)

        with frozen_postgres(database):
            # Several heartbeats, and one of the sessions' idle timeouts would have come.
            time.sleep(5)

        assert worker.process.poll() is None, worker.log
        seen = ready(database)
        wait_until(lambda: ready(database) > seen)
        job = client.post("/jobs", files={"file": ("a.wav", SAMPLE.read_bytes())}).json()
        url = f"/jobs/{job['id']}"
        wait_until(lambda: client.get(url).json()["progress"]["chunks_known"], within_s=120)
        worker.stop(within_s=60)


def ready(database: Engine) -> float:
    """When the worker was last seen; 0 before it is ready."""
    found = [each for each in live_workers(database, live_s=60) if each.state == "ready"]
    return max((each.last_seen_at.timestamp() for each in found), default=0.0)
