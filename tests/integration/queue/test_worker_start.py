"""How a worker starts, and what it says of itself meanwhile."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import Engine

from cli.embedded.ports import free_ports
from harness.engines.random_whisper import write_random_whisper
from harness.programs.workers import Fleet, Worker, environment, fleet, wait_until
from harness.repository.tree import ROOT
from harness.servers import patient
from shared.infra.settings import Settings
from shared.models import weight_files as files
from shared.models.weight_files import digest
from shared.store.workers import WorkerView, live_workers

BROKEN = b"no JSON"
WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in sys.argv[1].split(","):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
from worker.__main__ import main
main(sys.argv[2:])
"""
"""A program: ``python -m worker`` that can do without the modules named by its first argument."""


@pytest.fixture
def workers(settings: Settings, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose workers answer on a port of their own; one at a time."""
    with fleet(settings.model_copy(update={"health_port": free_ports(1)[0]}), tmp_path) as started:
        yield started


@pytest.fixture
def stalled(workers: Fleet, tmp_path: Path) -> Path:
    """A pipe in place of a file of a model's weights: its loading waits until that is written."""
    folder = tmp_path / "weights"
    folder.mkdir()
    write_random_whisper(folder, ["en"])
    pipe = folder / "config.json"
    pipe.rename(tmp_path / "config.json")
    os.mkfifo(pipe)
    names = files.present("faster-whisper", folder)
    catalogue = tmp_path / "models.toml"
    catalogue.write_text(f"""
        [languages]
        english = ["en"]

        [models.stalled]
        also_called = ["openai/stalled"]
        description = "Waits for its configuration."
        engine = "faster-whisper"
        source = "file:{folder}"
        revision = "{digest(folder, names)}"
        languages = "english"
        window_s = 30
        vad = "off"
        size_bytes = 0
    """)
    workers.settings = workers.settings.model_copy(
        update={"catalogue": catalogue, "default_model": "stalled"}
    )
    return pipe


def ask(worker: Worker, settings: Settings, path: str) -> tuple[int, str] | None:
    """What the worker answers: code and status; None while it does not listen yet."""
    assert worker.process.poll() is None, worker.log
    try:
        answer = patient.get(f"http://127.0.0.1:{settings.health_port}{path}")
    except httpx.TransportError:
        return None
    return answer.status_code, answer.json()["status"]


def entries(database: Engine) -> list[WorkerView]:
    return live_workers(database, live_s=30)


def said(worker: Worker) -> str:
    """The last line of its log."""
    return worker.log.rstrip().rpartition("\n")[2]


def feed(pipe: Path, content: bytes) -> None:
    """Write to whoever waits for the pipe; those who open it later find a file."""
    whole = pipe.with_suffix(".whole")
    whole.write_bytes(content)
    with pipe.open("wb") as written:
        whole.replace(pipe)
        written.write(content)


def test_a_model_worker_is_loading_until_its_weights_are_there_and_then_ready(
    database: Engine, workers: Fleet, stalled: Path, tmp_path: Path
) -> None:
    settings = workers.settings
    worker = workers.start("model", "--model", "openai/stalled")  # another of its names
    wait_until(lambda: ask(worker, settings, "/health/startup") == (503, "loading"))
    (entry,) = wait_until(lambda: entries(database))
    assert (entry.model, entry.state, entry.slots) == ("stalled", "loading", 0)
    assert entry.queues == ["model.stalled"]
    assert ask(worker, settings, "/health/live") == (200, "alive")
    assert ask(worker, settings, "/health/ready") == (503, "loading")

    feed(stalled, (tmp_path / "config.json").read_bytes())

    wait_until(lambda: ask(worker, settings, "/health/ready") == (200, "ready"))
    assert ask(worker, settings, "/health/startup") == (200, "started")
    (ready,) = wait_until(lambda: [each for each in entries(database) if each.state == "ready"])
    assert ready.id == entry.id
    assert ready.started_at == entry.started_at
    assert ready.slots > 0
    assert (ready.device, ready.dtype) == ("cpu", "int8_float32")
    assert ready.load_s is not None
    assert ready.load_s > 0
    assert ready.warm_up_s is not None
    assert ready.warm_up_s > 0
    assert "loaded stalled: faster-whisper" in worker.log
    metrics = patient.get(f"http://127.0.0.1:{settings.health_port}/metrics").text
    (shown,) = re.findall(r'^longhand_model_load_seconds{model="stalled"} (.*)$', metrics, re.M)
    assert float(shown) == pytest.approx(ready.load_s)
    assert worker.stop() == 0
    assert entries(database) == []


def test_a_model_worker_whose_weights_are_broken_says_so_and_ends(
    database: Engine, workers: Fleet, stalled: Path
) -> None:
    worker = workers.start("model", "--model", "stalled")
    wait_until(lambda: ask(worker, workers.settings, "/health/startup") == (503, "loading"))
    feed(stalled, BROKEN)
    assert worker.process.wait(60) == 1
    assert said(worker).startswith("Error: model 'stalled' cannot be loaded on cpu")
    assert "Traceback" not in worker.log
    assert entries(database) == []


@pytest.mark.parametrize(
    ("setting", "value"), [("device", "cuda"), ("dtype", "bfloat16")], ids=["device", "dtype"]
)
def test_a_model_worker_that_cannot_compute_as_it_should_ends(
    workers: Fleet, stalled: Path, tmp_path: Path, setting: str, value: str
) -> None:
    stalled.unlink()
    (tmp_path / "config.json").rename(stalled)
    catalogue = workers.settings.catalogue
    names = files.present("faster-whisper", stalled.parent)
    pinned = f'revision = "{digest(stalled.parent, names)}"'
    lines = catalogue.read_text().splitlines()
    catalogue.write_text("\n".join(pinned if "revision" in line else line for line in lines))
    workers.settings = workers.settings.model_copy(update={setting: value})

    worker = workers.start("model", "--model", "stalled")

    assert worker.process.wait(60) == 1
    assert said(worker).startswith("Error: model 'stalled' cannot be loaded")
    assert value in said(worker)
    assert "Traceback" not in worker.log


def test_two_workers_do_not_share_a_health_port(workers: Fleet) -> None:
    first = workers.start("beat")
    wait_until(lambda: ask(first, workers.settings, "/health/ready") == (200, "ready"))
    second = workers.start("cpu", "--concurrency", "1")
    assert second.process.wait(60) == 1
    assert said(second).startswith("Error: cannot serve health on 127.0.0.1:")
    assert first.process.poll() is None


def test_the_children_of_a_cpu_worker_do_not_hold_its_health_port(workers: Fleet) -> None:
    """A child that outlives its parent for a moment would keep the next worker from starting."""
    port = workers.settings.health_port
    worker = workers.start("cpu", "--concurrency", "1")
    wait_until(lambda: ask(worker, workers.settings, "/health/ready") == (200, "ready"))
    children = psutil.Process(worker.process.pid).children(recursive=True)
    assert children
    held = [each.laddr.port for child in children for each in child.net_connections()]
    assert port not in held


@pytest.mark.parametrize("role", ["beat", "deliver"])
def test_workers_that_hear_no_audio_start_without_what_others_take_long_to_import(
    database: Engine, settings: Settings, role: str
) -> None:
    blocked = "av,celery.bin,fastapi,flower,numpy,onnxruntime,prompt_toolkit,tornado,uvicorn"
    command = [sys.executable, "-c", WITHOUT, blocked, role]
    with subprocess.Popen(command, cwd=ROOT, env=environment(settings)) as process:
        try:
            wait_until(lambda: process.poll() is not None or "ready" in states(database))
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


def states(database: Engine) -> list[str]:
    return [entry.state for entry in entries(database)]
