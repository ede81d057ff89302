"""deploy/export_nemo.py around the export itself, which needs NeMo: that is a stand-in here."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from shared.models.catalogue import load_catalogue

SCRIPT = Path(__file__).parents[3] / "deploy" / "export_nemo.py"
CATALOGUE = """
[languages]
hindi = ["hi"]

[models.hindi]
description = "Hindi."
engine = "onnx-ctc"
source = "file:weights/stt_hi"
revision = "unpinned"
languages = "hindi"
window_s = 20
vad = "silero"
size_bytes = 1
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_nemo", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(CATALOGUE)
    return path


class StandIn:
    """What the script uses of a NeMo model."""

    tokenizer = SimpleNamespace(vocab=["<unk>", "▁क"])
    cfg = SimpleNamespace(
        preprocessor=SimpleNamespace(features=80), encoder=SimpleNamespace(subsampling_factor=4)
    )

    def export(self, path: str) -> None:
        Path(path).write_bytes(b"graph")


class Hybrid(StandIn):
    joint = object()
    config: dict[str, str] | None = None

    def set_export_config(self, config: dict[str, str]) -> None:
        self.config = config


def test_an_exported_model_is_pinned_and_usable(
    script: ModuleType,
    catalogue: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def export(name: str, folder: Path) -> None:
        asked.append(name)
        script.write_files(StandIn(), folder)

    monkeypatch.setattr(script, "export", export)
    monkeypatch.setattr(sys, "argv", ["export_nemo.py", "hindi", "--catalogue", str(catalogue)])

    for _ in range(2):  # a second export replaces the first
        script.main()

    assert asked == ["stt_hi"] * 2
    model = load_catalogue(catalogue).get("hindi")
    assert f"hindi is pinned in models.lock.toml: {model.revision}" in capsys.readouterr().out
    assert model.folder is not None
    assert (model.folder / "vocab.txt").read_text() == "<unk> 0\n▁क 1\n<blk> 2\n"
    assert json.loads((model.folder / "config.json").read_text()) == {
        "model_type": "nemo-conformer-ctc",
        "features_size": 80,
        "subsampling_factor": 4,
    }
    assert [path.name for path in model.folder.parent.iterdir()] == ["stt_hi"]


def test_an_export_that_fails_leaves_the_folder_as_it_was(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    def export(name: str, folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError

    monkeypatch.setattr(script, "export", export)
    with pytest.raises(OSError):
        script.replace_folder(tmp_path / "model", "x")

    assert [path.name for path in tmp_path.rglob("*")] == ["model", "config.json"]


def test_a_hybrid_exports_its_ctc_half(script: ModuleType, tmp_path: Path) -> None:
    model = Hybrid()
    script.write_files(model, tmp_path)
    assert model.config == {"decoder_type": "ctc"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["hindi"], "error: NeMo is not installed here"),
        (["hindi", "--pin-only"], "error: the folder that the catalogue names for model 'hindi'"),
        (["nope"], "error: no model 'nope'"),
    ],
)
def test_what_stands_in_the_way_is_one_line(
    catalogue: Path, arguments: list[str], complaint: str
) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments, "--catalogue", catalogue],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(complaint)
    assert done.stderr.count("\n") == 1
