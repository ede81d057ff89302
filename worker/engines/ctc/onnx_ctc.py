"""Conformers of NVIDIA NeMo with CTC, exported to ONNX, through onnx-asr and ONNX Runtime.

Items run one by one, on a processor several at a time, each in a thread. onnx-asr can run a batch
at once, but that is no faster: of items of 15 s a small network hears 20.7 in a second of processor
time one by one, 20.2 in batches of 4 and 20.7 in batches of 8. Batches of mixed lengths took twice
as long. An exported network may also lack a mask for padding: an item's last word could then depend
on the other items of its batch.

All calls share one pool of threads, so a call that is alone has all processors. Threads that wait
do not spin, so calls side by side lose nothing by it: 20.8 items in a second of processor time,
where threads that spin leave 10.6.
"""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, NamedTuple

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis
from worker.engines.ctc import words as ctc
from worker.engines.processors import share_processors
from worker.engines.protocol import DecodeOptions, Device, EngineOf, Prepared

HOP_SAMPLES = SAMPLE_RATE // 100
"""10 ms between feature frames: onnx-asr computes no others."""
UNKNOWN = "<unk>"

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""Element types of the network's tensors, as ONNX Runtime names them."""


class _Sound(NamedTuple):
    samples: Samples
    language: str | None


class _Emissions(NamedTuple):
    symbols: list[ctc.Emission]
    n_samples: int
    language: str | None


class OnnxCtcEngine(EngineOf[_Sound, _Emissions]):
    """Words with times and confidences from the best path.

    onnx-asr gives each symbol's first frame, and the product of its posteriors over its frames. A
    symbol counts as one frame long: most are, at 40 or 80 ms.
    """

    def __init__(self, model: Model, device: Device) -> None:
        """Load the pinned weights from this machine; nothing is downloaded.

        Raises:
            ModelError: the weights are missing, damaged or not those pinned, or the device cannot
                be used.
        """
        import onnx_asr
        import onnxruntime
        from onnx_asr.utils import ModelLoadingError

        folder, self.weights_digest = weights.pinned(model)
        self._frame_samples = HOP_SAMPLES * _subsampling(model, folder)
        on_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        if device == "cuda" and not on_gpu:
            raise ModelError(f"model '{model.id}': the installed ONNX Runtime cannot use a GPU")
        providers = ["CPUExecutionProvider"]
        if device != "cpu" and on_gpu:
            # The CUDA libraries are wheels, outside the linker's path.
            onnxruntime.preload_dlls()
            providers.insert(0, "CUDAExecutionProvider")
        self._errors = _runtime_errors()
        unloadable: tuple[type[Exception], ...] = (ModelLoadingError, ValueError, OSError)
        options = onnxruntime.SessionOptions()
        shares = share_processors()
        if len(providers) == 1:
            options.intra_op_num_threads = shares.alone
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            recognizer = onnx_asr.load_model(
                "nemo-conformer-ctc", folder, sess_options=options, providers=providers
            )
        except unloadable + self._errors as error:
            raise ModelError(f"model '{model.id}' cannot be loaded: {error}") from error
        self._recognizer = recognizer.with_timestamps()
        # ONNX Runtime silently falls back to the CPU; only its session shows that.
        asr: Any = recognizer.asr
        session = asr._model
        self.device: str = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise ModelError(f"model '{model.id}': ONNX Runtime found no usable GPU")
        self.streams = shares.streams if self.device == "cpu" else 1
        self.window_samples = round(model.window_s * SAMPLE_RATE)
        self.dtype = _DTYPES.get(session.get_outputs()[0].type, "mixed")
        self.version = f"onnx-asr {installed_version('onnx-asr')}"

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[_Sound] | Hypothesis:
        """Take an item as it is: features are part of the network's graph."""
        if not ctc.may_hold_words(samples):
            return Hypothesis((), options.language)
        return Prepared(_Sound(samples, options.language), len(samples))

    def infer(self, batch: Sequence[Prepared[_Sound]]) -> list[_Emissions | Prepared[_Sound]]:
        """Decode each item greedily; the beam size is ignored."""
        try:
            return [
                _Emissions(
                    list(self._emissions(item.input.samples)), item.n_samples, item.input.language
                )
                for item in batch
            ]
        except self._errors as error:
            # ONNX Runtime has no class of its own for a full memory.
            if "Failed to allocate memory" in str(error) or "out of memory" in str(error):
                raise DeviceOutOfMemory(f"{self.device}: out of memory") from error
            raise EngineFailed(f"{self.version} failed") from error

    def finish(self, raw: _Emissions) -> Hypothesis:
        """Join the symbols to words."""
        words = ctc.join_words(raw.symbols, self._frame_samples, raw.n_samples)
        return Hypothesis(words, raw.language)

    def _emissions(self, samples: Samples) -> Iterator[ctc.Emission]:
        heard = self._recognizer.recognize(samples)
        frame_s = self._frame_samples / SAMPLE_RATE
        for token, time_s, log_prob in zip(
            heard.tokens or (), heard.timestamps or (), heard.logprobs or (), strict=True
        ):
            frame = round(time_s / frame_s)
            if token != UNKNOWN:
                yield ctc.Emission(token, frame, frame + 1, log_prob)


def _subsampling(model: Model, folder: Path) -> int:
    """Return how many feature frames the network merges into one.

    The configuration must have the number. onnx-asr's default is 8, so it would read only half of
    the frames of a network that merges 4.

    Raises:
        ModelError: the configuration lacks it.
    """
    try:
        factor = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        factor = factor["subsampling_factor"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"config.json of model '{model.id}' has no subsampling_factor") from error
    if not isinstance(factor, int) or factor < 1:
        raise ModelError(f"config.json of model '{model.id}': subsampling_factor is {factor!r}")
    return factor


def _runtime_errors() -> tuple[type[Exception], ...]:
    """Return ONNX Runtime's error classes, whose only common base is Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile"),
        *("NotImplemented", "RuntimeException"),
    )
    return tuple(getattr(state, name) for name in names)
