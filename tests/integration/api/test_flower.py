"""Flower: who gets in, and whether what it shows is true."""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from celery import Celery
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.embedded.ports import free_ports
from harness.jobs.job_store import add_stored_job
from harness.media.recipes import wav
from harness.programs.forked import Forked
from harness.programs.workers import Fleet, Worker, environment, fleet, wait_until
from shared.infra.settings import FLOWER_USER, Settings
from shared.infra.storage import Storage
from shared.queue.broker import send_wakeups
from shared.store.jobs.read import get_job
from shared.store.workers import live_workers
from worker.engines.oracle import encode

PASSWORD = "open:sesame,please"
LOGIN = (FLOWER_USER, PASSWORD)
FIXED_QUEUES = {"cpu", "cpu.fetch", "cpu.large", "cpu.listen", "deliver", "sweep"}


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def workers(settings: Settings, broker: Celery, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet on an empty broker, whose Flower wants a password."""
    changes = {"flower_password": SecretStr(PASSWORD), "heartbeat_s": 0.5, "sweep_s": 0.5}
    with fleet(settings.model_copy(update=changes), tmp_path) as started:
        yield started


def ask(worker: Worker, port: int, path: str, **options: Any) -> httpx.Response | None:
    """What Flower answers; None while it does not listen yet."""
    assert worker.process.poll() is None, worker.log
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60, **options)
    except httpx.TransportError:
        return None


def queues(flower: Worker, port: int) -> dict[str, int]:
    """The length of each queue that Flower knows."""
    answer = wait_until(lambda: ask(flower, port, "/api/queues/length", auth=LOGIN))
    return {queue["name"]: queue["messages"] for queue in answer.json()["active_queues"]}


def test_flower_shows_the_real_queues_workers_and_steps(
    database: Engine, broker: Celery, storage: Storage, workers: Fleet, port: int
) -> None:
    send_wakeups(broker, "cpu", 3)
    flower = workers.start("flower", "--port", str(port))
    assert queues(flower, port) == dict.fromkeys(FIXED_QUEUES, 0) | {"cpu": 3}

    workers.start("beat")
    workers.start("cpu", "--concurrency", "1")
    workers.start("deliver", "--concurrency", "1")
    workers.start("model", "--model", "oracle")
    wait_until(lambda: [w.state for w in live_workers(database, live_s=30)] == 4 * ["ready"])
    wait_until(lambda: queues(flower, port) == dict.fromkeys({*FIXED_QUEUES, "model.oracle"}, 0))
    ids = {worker.id for worker in live_workers(database, live_s=30)}
    host = socket.gethostname()
    roles = {worker_id.partition("@")[0] for worker_id in ids}
    assert roles == {"beat", "cpu", "deliver", "model-oracle"}
    assert all(worker_id.partition("@")[2].startswith(f"{host}-") for worker_id in ids)
    # It waits for the workers' answers for a second.
    wait_until(lambda: workers_shown(flower, port) == ids)
    # It asks them for events every 5 s.
    wait_until(lambda: shown_after_a_job(flower, port, database, storage))

    spoken, _ = encode(range(140), gap_s=0.3)
    pcm = (spoken * 32767).astype(np.int16)
    job_id, poem = (add_stored_job(database, storage, file) for file in (wav(pcm), b"a poem"))
    wait_until(lambda: get_job(database, "default", job_id).state == "succeeded")
    wait_until(lambda: get_job(database, "default", poem).state == "failed")

    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT kind, idx, id, split_part(lease_owner, '/', 1) AS worker
                FROM steps WHERE job_id = :id
            """),
            {"id": job_id},
        ).all()
    kinds = Counter(row.kind for row in rows)
    assert kinds["transcribe"] > 1
    assert kinds == {"prepare": 1, "transcribe": kinds["transcribe"], "finish": 1}
    wait_until(lambda: len(tasks(flower, port, job_id, "SUCCESS")) == len(rows))
    found = {task["args"]: task for task in tasks(flower, port, job_id, "SUCCESS")}
    for row in rows:
        chunk = f" of chunk {row.idx}" if row.kind == "transcribe" else ""
        task = found[f"job {job_id}, {row.kind}{chunk}, step {row.id}"]
        assert (task["name"], task["worker"], task["retries"]) == (row.kind, row.worker, 0)
        assert row.worker in ids
        assert task["runtime"] > 0
    (failure,) = wait_until(lambda: tasks(flower, port, poem, "FAILURE"))
    assert failure["name"] == "prepare"
    assert failure["exception"].startswith("UnreadableMedia(")

    everything = ask(flower, port, "/api/tasks", auth=LOGIN)
    assert everything is not None
    assert {task["name"] for task in everything.json().values()} == {
        *("prepare", "transcribe", "finish")
    }
    for page, shown in (("/workers", ids), ("/broker", {*FIXED_QUEUES, "model.oracle"})):
        answer = wait_until(lambda page=page: ask(flower, port, page, auth=LOGIN))
        assert all(word in answer.text for word in shown)
    assert flower.stop() == 0
    assert PASSWORD not in flower.log


def workers_shown(flower: Worker, port: int) -> set[str]:
    """The workers that Flower knows, once it has asked for them anew."""
    answer = ask(flower, port, "/api/workers", params={"refresh": "1"}, auth=LOGIN)
    assert answer is not None
    return set(answer.json())


def tasks(flower: Worker, port: int, job_id: UUID, state: str) -> list[dict[str, Any]]:
    """A job's tasks in a state, as Flower tells of them."""
    answer = ask(flower, port, "/api/tasks", params={"search": str(job_id)}, auth=LOGIN)
    assert answer is not None
    return [task for task in answer.json().values() if task["state"] == state]


def shown_after_a_job(flower: Worker, port: int, database: Engine, storage: Storage) -> bool:
    """Whether Flower is told of the steps of one more job that fails."""
    job_id = add_stored_job(database, storage, b"a poem")
    wait_until(lambda: get_job(database, "default", job_id).state == "failed")
    answer = ask(flower, port, "/api/tasks", auth=LOGIN)
    assert answer is not None
    return any(task["state"] == "FAILURE" for task in answer.json().values())


@pytest.mark.parametrize("path", ["/", "/tasks", "/broker", "/api/workers", "/api/tasks"])
@pytest.mark.parametrize("auth", [None, (FLOWER_USER, "guess"), ("admin", PASSWORD)])
def test_nobody_gets_into_flower_without_the_password(
    flower: tuple[Worker, int], path: str, auth: tuple[str, str] | None
) -> None:
    answer = wait_until(lambda: ask(*flower, path, auth=auth))
    assert answer.status_code == 401
    assert "prepare" not in answer.text


@pytest.fixture(scope="module")
def flower(
    servers: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Worker, int]]:
    """A Flower of its own, and its port."""
    port = free_ports(1)[0]
    behind_login = servers.model_copy(update={"flower_password": SecretStr(PASSWORD)})
    with fleet(behind_login, tmp_path_factory.mktemp("flower")) as started:
        yield started.start("flower", "--port", str(port)), port


def celery_flower(settings: Settings, log: Path, *options: str) -> Forked:
    """Celery's own command, forked."""
    arguments = ["--app=worker.app", "flower", *options]
    return Forked("celery", arguments, env=environment(settings), stdout=log)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_flower_does_not_listen_beyond_loopback_without_a_password(
    workers: Fleet, address: str, port: int, tmp_path: Path
) -> None:
    workers.settings = workers.settings.model_copy(update={"flower_password": SecretStr("")})
    sentence = (
        f"Error: Flower does not listen on {address} without a password: "
        "set LONGHAND_FLOWER_PASSWORD\n"
    )
    ours = workers.start("flower", f"--address={address}", f"--port={port}")
    assert (ours.process.wait(60), ours.log) == (1, sentence)
    log = tmp_path / "celery.log"
    theirs = celery_flower(workers.settings, log, f"--address={address}", f"--port={port}")
    assert (theirs.wait(60), log.read_text()) == (1, sentence)


@pytest.mark.parametrize(("password", "code"), [("", 200), (PASSWORD, 401)])
def test_celerys_own_flower_listens_on_loopback_and_asks_for_the_password(
    settings: Settings, port: int, password: str, code: int, tmp_path: Path
) -> None:
    changed = settings.model_copy(update={"flower_password": SecretStr(password)})
    process = celery_flower(changed, tmp_path / "celery.log", f"--port={port}")
    try:

        def answer() -> httpx.Response | None:
            assert process.poll() is None
            try:
                return httpx.get(f"http://127.0.0.1:{port}/broker", timeout=60)
            except httpx.TransportError:
                return None

        assert wait_until(answer).status_code == code
        assert listening(port) == {"127.0.0.1"}
    finally:
        process.terminate()
        process.wait(60)


def listening(port: int) -> set[str]:
    """The addresses on which somebody listens on this port."""
    import psutil

    return {
        each.laddr.ip
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    }


def test_a_port_that_is_taken_is_one_sentence(workers: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flower = workers.start("flower", f"--port={port}")
        assert flower.process.wait(60) == 1
    said = f"Error: cannot serve Flower on 127.0.0.1:{port}: {os.strerror(98)}\n"
    assert flower.log.endswith(said)
    assert "Traceback" not in flower.log
