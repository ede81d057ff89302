"""Conformers of NVIDIA NeMo with CTC, exported to ONNX, through onnx-asr and ONNX Runtime.

Items run one by one, on a processor several at a time, each in a thread. onnx-asr can run a batch
at once, but that is no faster: of items of 15 s a small network hears 20.7 in a second of processor
time one by one, 20.2 in batches of 4 and 20.7 in batches of 8. Batches of mixed lengths took twice
as long. An exported network may also lack a mask for padding: an item's last word could then depend
on the other items of its batch.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import version as installed_version
from typing import Any, NamedTuple

from shared.infra.errors import ModelError
from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines.emissions import Emission, join_words, may_hold_words
from worker.engines.onnx_networks import HOP_SAMPLES, OnnxRuntime, read_config
from worker.engines.protocol import DecodeOptions, Device, EngineOf, Prepared

UNKNOWN = "<unk>"

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""Element types of the network's tensors, as ONNX Runtime names them."""


class _Sound(NamedTuple):
    samples: Samples
    language: str | None


class _Emissions(NamedTuple):
    symbols: list[Emission]
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
        from onnx_asr.utils import ModelLoadingError

        folder, self.weights_digest = weights.pinned(model)
        config = read_config(model, folder)
        self._frame_samples = HOP_SAMPLES * config["subsampling_factor"]
        self._runtime = OnnxRuntime(model, device)
        unloadable: tuple[type[Exception], ...] = (ModelLoadingError, ValueError, OSError)
        try:
            recognizer = onnx_asr.load_model(
                "nemo-conformer-ctc",
                folder,
                quantization=model.quantization,
                sess_options=self._runtime.options,
                providers=self._runtime.providers,
            )
        except unloadable + self._runtime.errors as error:
            raise ModelError(f"model '{model.id}' cannot be loaded: {error}") from error
        self._recognizer = recognizer.with_timestamps()
        asr: Any = recognizer.asr
        session = asr._model
        self.device: str = self._runtime.device_of(session)
        self.streams = self._runtime.streams(self.device)
        self.window_samples = round(model.window_s * SAMPLE_RATE)
        dtype = _DTYPES.get(session.get_outputs()[0].type, "mixed")
        self.dtype = f"{model.quantization}_{dtype}" if model.quantization else dtype
        self.version = f"onnx-asr {installed_version('onnx-asr')}"

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[_Sound] | Hypothesis:
        """Take an item as it is: features are part of the network's graph."""
        if not may_hold_words(samples):
            return Hypothesis((), options.language)
        return Prepared(_Sound(samples, options.language), len(samples))

    def infer(self, batch: Sequence[Prepared[_Sound]]) -> list[_Emissions | Prepared[_Sound]]:
        """Decode each item greedily; the beam size is ignored."""
        with self._runtime.failures(self.device, self.version):
            return [
                _Emissions(
                    list(self._emissions(item.input.samples)), item.n_samples, item.input.language
                )
                for item in batch
            ]

    def finish(self, raw: _Emissions) -> Hypothesis:
        """Join the symbols to words."""
        words = join_words(raw.symbols, self._frame_samples, raw.n_samples)
        return Hypothesis(words, raw.language)

    def _emissions(self, samples: Samples) -> Iterator[Emission]:
        heard = self._recognizer.recognize(samples)
        frame_s = self._frame_samples / SAMPLE_RATE
        for token, time_s, log_prob in zip(
            heard.tokens or (), heard.timestamps or (), heard.logprobs or (), strict=True
        ):
            frame = round(time_s / frame_s)
            if token != UNKNOWN:
                yield Emission(token, frame, frame + 1, log_prob)
