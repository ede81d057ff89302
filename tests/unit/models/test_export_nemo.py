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


SPEAKERS = """
[models.campplus-seg3]
kind = "diarization"
description = "Tells speakers apart."
engine = "campplus-seg3"
source = "file:voices"
revision = "unpinned"
size_bytes = 1

[models.four]
kind = "diarization"
description = "Tells four speakers apart."
engine = "sortformer"
source = "file:diar_v2"
revision = "unpinned"
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
    script: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    def export(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError

    with pytest.raises(OSError):
        script.replace_folder(tmp_path / "model", export)

    assert [path.name for path in tmp_path.rglob("*")] == ["model", "config.json"]


class Zeros:
    """What the script uses of a tensor."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def new_zeros(self, shape: tuple[int, ...]) -> "Zeros":
        return Zeros(*shape)


class Streamed:
    """What the script uses of NeMo's Sortformer."""

    cfg = SimpleNamespace(preprocessor=SimpleNamespace(features=128))
    example: tuple[Zeros, ...] = ()

    def eval(self) -> "Streamed":
        return self

    def streaming_input_examples(self) -> tuple[Zeros, ...]:
        return (
            Zeros(4, 120, 80),
            Zeros(4),
            Zeros(4, 188, 512),
            Zeros(4),
            Zeros(4, 188, 512),
            Zeros(4),
        )

    def export(self, path: str, input_example: tuple[Zeros, ...]) -> None:
        self.example = input_example
        Path(path).write_bytes(b"graph")


def test_a_sortformer_is_exported_for_its_features_beside_a_network_for_voices(
    script: ModuleType,
    catalogue: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    catalogue.write_text(CATALOGUE + SPEAKERS)
    voices = catalogue.parent / "voices"
    voices.mkdir()
    for name in ("segmentation.onnx", "embedding.onnx"):
        (voices / name).write_bytes(name.encode())
    model, asked = Streamed(), []

    def from_pretrained(name: str, map_location: str) -> Streamed:
        asked.append((name, map_location))
        return model

    monkeypatch.setattr(script, "_nemo", lambda _: SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setattr(sys, "argv", ["export_nemo.py", "four", "--catalogue", str(catalogue)])

    script.main()

    assert asked == [("nvidia/diar_v2", "cpu")]
    assert [each.shape for each in model.example][:3] == [(4, 120, 128), (4,), (4, 188, 512)]
    entry = load_catalogue(catalogue).diarizers["four"]
    assert f"four is pinned in models.lock.toml: {entry.revision}" in capsys.readouterr().out
    found = {path.name: path.read_bytes() for path in (catalogue.parent / "diar_v2").iterdir()}
    assert found == {"sortformer.onnx": b"graph", "embedding.onnx": b"embedding.onnx"}


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
