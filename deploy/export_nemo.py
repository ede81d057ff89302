# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["nemo_toolkit[asr]>=2.4,<3", "onnx", "pydantic>=2.12", "pydantic-settings>=2.11"]
# ///
"""Download a NeMo model, export it to ONNX for the engine ``onnx-ctc``, and pin it.

    uv run deploy/export_nemo.py conformer-hindi

uv makes an environment of its own for this (several GB), beside that of Longhand. Without uv: make
one, install what stands above, and run this file with its Python. The model goes into the folder
that the catalogue names for it ('file:...'), and its digest into the lock file beside that.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from shared.infra.errors import LonghandError  # noqa: E402
from shared.models.catalogue import Model, load_catalogue  # noqa: E402
from shared.models.pinning import find_newest  # noqa: E402
from shared.models.pins import write_pin  # noqa: E402


def main() -> None:
    """Export and pin what the command line names; a failure is one line."""
    parser = argparse.ArgumentParser(
        description="Export a NeMo model to ONNX for Longhand, and pin it."
    )
    parser.add_argument("model", help="id in the catalogue, such as conformer-hindi")
    parser.add_argument("--nemo-name", help="NVIDIA's name of it; default: the folder's name")
    parser.add_argument(
        "--catalogue",
        type=Path,
        default=Path(os.environ.get("LONGHAND_CATALOGUE", ROOT / "models.toml")),
        help="default: LONGHAND_CATALOGUE, or this tree's",
    )
    parser.add_argument("--pin-only", action="store_true", help="pin the folder as it is")
    arguments = parser.parse_args()
    try:
        model = load_catalogue(arguments.catalogue).entry(arguments.model)
        folder = model.folder
        if model.engine != "onnx-ctc" or folder is None:
            parser.error(f"'{model.id}' is no model of onnx-ctc in a folder ('file:...')")
        if not arguments.pin_only:
            replace_folder(folder, arguments.nemo_name or folder.name)
        sys.stdout.write(f"{pin(arguments.catalogue, model)}\n")
    except LonghandError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "))


def replace_folder(folder: Path, nemo_name: str) -> None:
    """Export into a folder of its own, and put that in the place of ``folder`` when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        export(nemo_name, place)
        place.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        place.rename(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def export(nemo_name: str, folder: Path) -> None:
    """Download a model from NVIDIA and write the three files that onnx-ctc reads."""
    try:
        from nemo.collections.asr.models import ASRModel  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        sys.exit("error: NeMo is not installed here: uv run deploy/export_nemo.py ...")
    write_files(ASRModel.from_pretrained(nemo_name), folder)


def write_files(model: Any, folder: Path) -> None:
    """Write ``model.onnx``, ``vocab.txt`` and ``config.json`` of a NeMo model."""
    if hasattr(model, "joint"):  # a hybrid: its transducer stays behind
        model.set_export_config({"decoder_type": "ctc"})
    model.export(str(folder / "model.onnx"))
    # One symbol and its number a line; the blank is the last.
    symbols = [*model.tokenizer.vocab, "<blk>"]
    lines = "".join(f"{symbol} {number}\n" for number, symbol in enumerate(symbols))
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    config = {
        "model_type": "nemo-conformer-ctc",
        "features_size": model.cfg.preprocessor.features,
        # Feature frames (10 ms) to one frame of the network: 4 in conformers, 8 in fast ones. All
        # times follow from it, and a factor too large would drop the end of every chunk.
        "subsampling_factor": model.cfg.encoder.subsampling_factor,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def pin(catalogue: Path, model: Model) -> str:
    """Write the folder's digest into the lock file; return a sentence that says so.

    Raises:
        ModelError: a file is missing, or the catalogue itself pins the model.
    """
    found = find_newest(model)
    lock = write_pin(catalogue, model.id, found.pin)
    return f"{model.id} is pinned in {lock.name}: {found.pin.revision}"


if __name__ == "__main__":
    main()
