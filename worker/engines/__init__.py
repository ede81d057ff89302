"""Speech engines, and how a catalogue entry becomes a loaded one."""

from shared.infra.errors import ModelError
from shared.models.catalogue import Model
from shared.models.engine_packages import missing_engine
from worker.engines.protocol import Device, Engine


def load_engine(
    model: Model,
    *,
    device: Device = "auto",
    dtype: str = "auto",
    compile: bool = False,  # noqa: A002 - torch's own word for it
) -> Engine:
    """Load a model with the engine that its catalogue entry names.

    Engine libraries are imported here, as a worker needs only those of its model.

    Args:
        model: the catalogue entry.
        device: 'auto' takes the GPU if there is one. Engines without GPU support ignore it.
        dtype: what to compute in; 'auto' is the engine's choice for the device. Engines whose
            weights fix it ('onnx-ctc', 'pocketsphinx', 'oracle') ignore it.
        compile: whether torch compiles the model first, where the engine can.

    Raises:
        ModelError: a library or the weights are missing, or the device or dtype cannot be used.
        DeviceOutOfMemory, EngineFailed: the device cannot take it.
    """
    if (missing := missing_engine(model)) is not None:
        raise ModelError(f"model '{model.id}': {missing}")
    match model.engine:
        case "pocketsphinx":
            from worker.engines.pocketsphinx import PocketSphinxEngine

            return PocketSphinxEngine(model)
        case "faster-whisper":
            from worker.engines.whisper.faster_whisper import FasterWhisperEngine

            return FasterWhisperEngine(model, device, dtype)
        case "transformers-whisper":
            from worker.engines.whisper.transformers_whisper import TransformersWhisperEngine

            return TransformersWhisperEngine(model, device, dtype, compile=compile)
        case "transformers-ctc":
            from worker.engines.ctc.transformers_ctc import TransformersCtcEngine

            return TransformersCtcEngine(model, device, dtype)
        case "onnx-ctc":
            from worker.engines.ctc.onnx_ctc import OnnxCtcEngine

            return OnnxCtcEngine(model, device)
        case "oracle":
            from worker.engines.oracle import OracleEngine

            return OracleEngine()
