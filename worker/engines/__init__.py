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

    Engine libraries are imported here, as a worker needs only those of its model. Options that an
    engine cannot follow are ignored.

    Args:
        model: the catalogue entry.
        device: where to compute.
        dtype: what to compute in; 'auto' is the engine's choice for the device. The weights fix it
            for 'onnx-ctc', 'onnx-transducer', 'pocketsphinx' and 'oracle'.
        compile: whether torch compiles the model first.

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
        case "onnx-transducer":
            from worker.engines.transducer.onnx_transducer import OnnxTransducerEngine

            return OnnxTransducerEngine(model, device)
        case "oracle":
            from worker.engines.oracle import OracleEngine

            return OracleEngine()
