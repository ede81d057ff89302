"""Every code block of the documents works, and works when it is run again.

Commands and programs run as they are written, on a real platform. Only this is changed: addresses
are the platform's own, JOB_ID is the job that was sent last, the Whispers are the tiny one of
tests/models under the names of the catalogue, since no test may need a model hub, and the folder of
samples lacks the longest one.
"""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import httpx
import pytest

from bench.__main__ import MEASUREMENTS
from cli.embedded.ports import free_ports
from harness.engines.trained_models import MODELS
from harness.peers.receivers import Receiver, receiving
from harness.programs.command_line import COMMAND, ENV, ended
from harness.programs.workers import environment, wait_until
from harness.repository.documents import LANGUAGES, Block, blocks, documents
from harness.repository.tree import ROOT
from harness.servers import patient
from shared.infra.settings import Settings
from shared.infra.webhooks.signature import new_secret

RUN = {"longhand", "curl", "python3"}
NOT_RUN = {
    "docker": "there is no Docker engine; tests/integration/deploy checks the files that it reads",
    "umask": "for docker",
    "python3": "in that block makes secrets for docker; test_confinement.py runs it",
    "git": "the address is the reader's; the test of the first run clones",
    "cd": "into the clone, where every test is",
    "venv": "the tests' own environment holds the same and more",
    "make": "the tests would run the tests; that each target exists is checked",
    "bench": "takes long; that each benchmark exists is checked",
    "pip": "would change the environment of the tests",
    "uv": "makes an environment of several GB",
    "run.sh": "measures a GPU; its dry run is a test of its own",
    "pack.sh": "fetches wheels for another machine",
    "arecord": "records from a microphone",
}
"""Commands that no test runs, and why."""

ALL = [block for document in documents() for block in blocks(document)]
GUIDES = ["README.md", "docs/command-line.md", "docs/api.md", "docs/webhooks.md"]
"""What people follow, command by command, on a platform that runs. The API's deletes the job."""
GUIDED = [block for document in GUIDES for block in blocks(document)]
EXAMPLE_HOOK = "https://example.com/hook"
EXAMPLE_SECRET = "whsec_..."
SERVER = "127.0.0.1:8000"
MODEL_IDS = ("whisper-base", "whisper-small")
UNSERVED_MODEL = "whisper-tiny"
LONGEST_SAMPLE = ROOT / "samples/meeting.mp3"
LIMIT_S = 300
"""For one command, on a machine that is busy with other tests."""

pytestmark = pytest.mark.timeout(2 * LIMIT_S)


class Reader:
    """A reader who follows the documents, in a folder that looks like the clone."""

    def __init__(self, folder: Path, hook: Receiver) -> None:
        self.folder = folder
        self.hook = hook
        self.secret = new_secret()
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.env = ENV | {
            "LONGHAND_DATA": str(folder / "data"),
            "LONGHAND_CATALOGUE": str(folder / "models.toml"),
            "LONGHAND_OUTBOUND_HTTP": "true",
            "LONGHAND_OUTBOUND_ALLOW": "127.0.0.1",
            "HOME": str(folder),
        }
        self._job = ""

    def sent(self, text: str) -> str:
        """Return what is written in a document as it is run here."""
        text = text.replace(SERVER, self.address).replace(EXAMPLE_HOOK, self.hook.url)
        return text.replace(EXAMPLE_SECRET, self.secret)

    def run(self, command: str) -> str:
        """Run a command of a shell block, and return what it printed.

        curl fails where the answer is a problem, as a reader would see it.
        """
        if "JOB_ID" in command:
            job = self.active_job() if "/cancel" in command else self._job
            command = command.replace("JOB_ID", job)
            # 30 s, which readers are told to wait, may not be enough here.
            if job == self._job and "DELETE" not in command:
                wait_until(lambda: ended(f"http://{self.address}", job), within_s=LIMIT_S)
        strict = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }\n'
        done = subprocess.run(
            ["bash", "-c", strict + self.sent(command)],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if done.stdout.startswith("{") and "state" in (answer := json.loads(done.stdout)):
            self._job = answer.get("id", self._job)
        return done.stdout

    def active_job(self) -> str:
        """Return a job that waits for a worker: none comes, so it cannot end of itself."""
        options = {"model": UNSERVED_MODEL, "wait_for_worker": "true"}
        file = {"file": ("talk.mp3", LONGEST_SAMPLE.read_bytes())}
        job = patient.post(f"http://{self.address}/jobs", files=file, data=options)
        return str(job.raise_for_status().json()["id"])

    @contextmanager
    def running(self, command: list[str], ready: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command in the background, from the line that begins with ``ready`` on."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert any(line.startswith(ready) for line in process.stdout)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=200)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader whose platform is up."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "samples").mkdir()
    for sample in (ROOT / "samples").iterdir():
        if sample.stem != LONGEST_SAMPLE.stem:
            shutil.copy(sample, folder / "samples")
    script = folder / "longhand"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    script.chmod(0o755)
    for name in audio_names():
        shutil.copy(ROOT / "samples" / "hello.wav", folder / name)
    (folder / "models.toml").write_text(stand_in_catalogue())
    with receiving() as hook:
        reader = Reader(folder, hook)
        port = reader.address.rpartition(":")[2]
        models = [f"--model={model}" for model in (*MODEL_IDS, "starter")]
        with reader.running([str(script), "up", "--port", port, *models], "ready "):
            yield reader


def audio_names() -> set[str]:
    """Return the reader's own recordings that the guides' commands name."""
    return {
        word
        for block in GUIDED
        if block.language == "sh"
        for command in block.commands
        for word in shlex.split(command, comments=True)
        if re.fullmatch(r"[a-z]+\.(mp3|m4a|mp4|wav)", word)
    }


def stand_in_catalogue() -> str:
    """Return the tree's catalogue, the weights of its Whispers those of the tiny one."""
    tiny = tomllib.loads((MODELS / "models.toml").read_text())["models"]["tiny-whisper-ct2"]
    entries = re.split(r"(?=^\[models\.)", (ROOT / "models.toml").read_text(), flags=re.MULTILINE)
    for at, entry in enumerate(entries):
        if entry.startswith(tuple(f"[models.{model}]" for model in MODEL_IDS)):
            moved = re.sub(r'source = ".*"', f'source = "file:{MODELS}/whisper-ct2"', entry)
            entries[at] = re.sub(r'revision = ".*"', f'revision = "{tiny["revision"]}"', moved)
    return "".join(entries)


def kind(command: str) -> str:
    """Return which of NOT_RUN a command is, or else its own name."""
    words = [word for word in shlex.split(command, comments=True) if "=" not in word] or [command]
    name = Path(words[0]).name
    if name.startswith("python") and "-m" in words:
        return words[words.index("-m") + 1]
    return name


def is_production(block: Block) -> bool:
    return block.language == "sh" and "worker" in map(kind, block.commands)


def is_used(block: Block) -> bool:
    return block.language == "sh" and {*map(kind, block.commands)} <= RUN


def programs(sign: str) -> list[Block]:
    """Return the guides' Python blocks in which this stands."""
    found = [block for block in GUIDED if block.language == "python" and sign in block.text]
    assert found
    return found


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES
    if block.language == "json":
        json.loads(block.text)
    if block.language == "python":
        compile(block.text, str(block), "exec")
    if block.language == "toml":
        tomllib.loads(block.text)
    if block.language == "text":
        assert not re.search(r"^\$ |^(curl|python|make) |^\./longhand", block.text, re.MULTILINE)


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "sh"], ids=str)
def test_every_command_is_run_or_there_is_a_reason_why_not(block: Block) -> None:
    if is_used(block) or is_production(block):
        return
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in block.commands:
        words = [word for word in shlex.split(command, comments=True) if "=" not in word]
        name = kind(command)
        assert name in NOT_RUN or not words, command
        if name == "make":
            assert words[1] in targets
        if name == "bench":
            assert words[3] in MEASUREMENTS
            options = {word for word in words if word.startswith("--")}
            assert options <= set(re.findall(r"--[\w-]+", (ROOT / "bench/__main__.py").read_text()))


@pytest.mark.parametrize("time", ["once", "again"])
@pytest.mark.parametrize("block", [block for block in GUIDED if is_used(block)], ids=str)
def test_the_commands_of_the_guides_work(reader: Reader, block: Block, time: str) -> None:
    for command in block.commands:
        words = shlex.split(command, comments=True)
        if words[:2] == ["./longhand", "up"]:
            # The plain one is the reader's platform; test_cli_platform.py starts one again.
            if len(words) > 2 and time == "once":
                free = dict(zip(("8001", "5556"), map(str, free_ports(2)), strict=True))
                with reader.running([free.get(word, word) for word in words], "ready "):
                    pass
        else:
            reader.run(command)


@pytest.mark.parametrize(
    ("block", "time"),
    [
        *product(programs("longhand_sdk"), ("once", "again")),
        *product(programs("lh_live_..."), ("once",)),
    ],
    ids=str,
)
def test_the_clients_of_the_guides_print_a_transcript(
    reader: Reader, block: Block, time: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", reader.sent(block.text)],
        cwd=reader.folder,
        env=reader.env,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 5


@pytest.mark.parametrize("time", ["once", "again"])
@pytest.mark.parametrize("block", programs("HTTPServer("), ids=str)
def test_the_receiver_of_the_guides_takes_signed_events_and_no_others(
    reader: Reader, block: Block, time: str
) -> None:
    port = free_ports(1)[0]
    program = reader.sent(block.text).replace("9000", str(port))
    url = f"http://127.0.0.1:{port}"
    receiver = subprocess.Popen(
        [sys.executable, "-u", "-c", program],
        cwd=reader.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_until(lambda: refusal(url) == 401)
        with (reader.folder / "samples/hello.wav").open("rb") as audio:
            patient.post(
                f"http://{reader.address}/jobs",
                data={"model": "starter", "webhook_url": url, "webhook_secret": reader.secret},
                files={"file": audio},
            ).raise_for_status()
        assert receiver.stdout is not None
        assert receiver.stdout.readline().startswith("job.succeeded {")
    finally:
        receiver.kill()
        receiver.communicate()


def refusal(url: str) -> int | None:
    """Return what a receiver says to an event without a signature; None while it is not there."""
    try:
        return patient.post(url, content=b"{}").status_code
    except httpx.ConnectError:
        return None


def test_the_event_that_the_guides_show_is_like_those_that_arrive(reader: Reader) -> None:
    (shown,) = [json.loads(block.text) for block in GUIDED if block.language == "json"]
    with (reader.folder / "samples/hello.wav").open("rb") as audio:
        patient.post(
            f"http://{reader.address}/jobs",
            data={"webhook_url": reader.hook.url, "webhook_secret": reader.secret}
            | {"model": "starter", "metadata": json.dumps(shown["data"]["metadata"])},
            files={"file": audio},
        ).raise_for_status()

    def arrived() -> list[dict[str, object]]:
        events = [json.loads(request.body) for request in list(reader.hook.requests)]
        return [e for e in events if e["data"].get("metadata") == shown["data"]["metadata"]]

    event = wait_until(arrived)[0]
    assert event.keys() == shown.keys()
    assert event["data"].keys() == shown["data"].keys()  # type: ignore[attr-defined]
    assert event["type"] == shown["type"]


def test_the_stream_that_the_guides_show_is_like_a_real_one(reader: Reader) -> None:
    (shown,) = [b.text for b in GUIDED if b.language == "text" and "event: " in b.text]
    job = reader.run(f"curl -F file=@samples/hello.wav -F cache=false http://{SERVER}/jobs")
    stream = reader.run(f"curl -N http://{SERVER}/jobs/{json.loads(job)['id']}/events")
    for part in re.findall(r"^event: \w+$|\"\w+\":", shown, re.MULTILINE):
        assert part in stream


def test_the_production_commands_make_a_platform(servers: Settings, tmp_path: Path) -> None:
    (block,) = [block for block in GUIDED if is_production(block)]
    port = str(free_ports(1)[0])
    (tmp_path / "models.toml").write_text(stand_in_catalogue())
    env = environment(servers) | {
        "LONGHAND_CATALOGUE": str(tmp_path / "models.toml"),
        "LONGHAND_DEFAULT_MODEL": MODEL_IDS[1],
        "PYTHONPATH": str(ROOT),
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(block.commands):
            words = [port if word == "8000" else word for word in shlex.split(command)]
            words[0] = str(Path(sys.executable).with_name(Path(words[0]).name))
            with (tmp_path / f"{number}.log").open("wb") as log:
                process = subprocess.Popen(words, env=env, cwd=tmp_path, stdout=log, stderr=log)
            if "migrate" in words:
                assert process.wait(200) == 0, log
            else:
                running.append(process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until(lambda: serves(client), within_s=LIMIT_S)
            with (ROOT / "samples/hello.wav").open("rb") as audio:
                job = client.post("/jobs", files={"file": audio}).json()
            ended = client.get(f"/jobs/{job['id']}", params={"wait": 60}).json()
        assert ended["state"] == "succeeded", ended
        assert all(process.poll() is None for process in running)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(200)


def serves(client: httpx.Client) -> bool:
    """Whether the API answers and its model has a worker that is ready."""
    try:
        return bool(client.get("/health/ready").json()["models"].get(MODEL_IDS[1]) == "ready")
    except httpx.TransportError:
        return False
