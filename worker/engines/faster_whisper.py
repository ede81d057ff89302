"""Whisper through faster-whisper and CTranslate2: int8 on a CPU, float16 on a GPU."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version as installed_version
from typing import Literal

import numpy as np

from shared.catalogue import Model
from shared.errors import DeviceOutOfMemory, EngineFailed, ModelError
from worker.audio import SAMPLE_RATE, Hypothesis, Samples, WordHypothesis
from worker.engines import weights
from worker.engines.protocol import DecodeOptions

SILENCE_PEAK = 1e-4
"""Peak below which an item is silence (-80 dBFS, 3 steps of 16-bit audio): Whisper makes up
words for digital silence, so it is not asked."""
SEED = 0
"""Temperature fallback samples at random, from generators that CTranslate2 seeds once per thread:
what needs no fallback is repeatable, the rest only as far as the same items come in the same order.
"""

_WHISPER_CODES = {"jv": "jw"}
"""Where Whisper's language codes are not ISO 639."""
_ISO_CODES = {code: iso for iso, code in _WHISPER_CODES.items()}


class FasterWhisperEngine:
    """Whisper with word times, temperature fallback and its checks, item by item."""

    max_batch = 1

    def __init__(self, model: Model, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
        """Load the pinned weights from the local cache; the network is not asked.

        Raises:
            ModelError: the weights are missing or damaged, or the device cannot be used.
        """
        import ctranslate2
        from faster_whisper import WhisperModel

        path = weights.cached(model)
        if path is None:
            raise ModelError(f"the weights of model '{model.id}' have not been fetched yet")
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        self.device: str = device
        self.version = f"faster-whisper {installed_version('faster-whisper')}"
        ctranslate2.set_random_seed(SEED)
        try:
            self._model = WhisperModel(
                str(path),
                device=device,
                compute_type="float16" if device == "cuda" else "int8",
                local_files_only=True,
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"model '{model.id}' cannot be loaded on {device}: {error}") from error

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return the words of each item and the language given or detected.

        Raises:
            DeviceOutOfMemory: the GPU's memory is full.
            EngineFailed: CTranslate2 failed otherwise.
        """
        try:
            return [self._decode(samples, options) for samples in batch]
        except RuntimeError as error:
            # CTranslate2 has one exception class for everything; only its text tells them apart.
            if "out of memory" in str(error):
                raise DeviceOutOfMemory(f"{self.device}: out of memory") from error
            raise EngineFailed(f"{self.version} failed") from error

    def _decode(self, samples: Samples, options: DecodeOptions) -> Hypothesis:
        if samples.size == 0 or float(np.abs(samples).max()) < SILENCE_PEAK:
            return Hypothesis((), options.language)
        language = options.language
        segments, info = self._model.transcribe(
            samples,
            language=None if language is None else _WHISPER_CODES.get(language, language),
            beam_size=options.beam_size,
            condition_on_previous_text=False,
            word_timestamps=True,
            vad_filter=False,
        )
        heard = [word for segment in segments for word in segment.words or ()]
        return Hypothesis(
            tuple(
                _words(
                    ((word.word, word.start, word.end, word.probability) for word in heard),
                    len(samples),
                )
            ),
            language or _ISO_CODES.get(info.language, info.language),
        )


def _words(
    heard: Iterator[tuple[str, float, float, float]], n_samples: int
) -> Iterator[WordHypothesis]:
    """Turn (text, start_s, end_s, probability) into words whose times lie in the item, in order.

    Whisper hears 30 s whatever the item's length, and its times may run past the end or step back.
    """
    previous_end = 0
    for text, start_s, end_s, probability in heard:
        if not text.strip():
            continue
        start = min(max(round(start_s * SAMPLE_RATE), previous_end), n_samples)
        end = min(max(round(end_s * SAMPLE_RATE), start), n_samples)
        previous_end = end
        yield WordHypothesis(text.strip(), start, end, min(1.0, max(0.0, float(probability))))
