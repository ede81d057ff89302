"""Voice activity detection on a stream of audio.

The Silero model and the meaning of its two thresholds come from
https://github.com/snakers4/silero-vad (v6, MIT). Its ONNX file is in the faster-whisper wheel.
"""

from abc import ABC, abstractmethod
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from shared.speech.audio import Pcm, Span
from shared.speech.chunks import SAMPLE_RATE
from shared.speech.names import VadName

if TYPE_CHECKING:
    import onnxruntime

MAX_LAG_SAMPLES = 2 * SAMPLE_RATE
"""Most audio between a span's start and its release; the chunk planner relies on it."""
WINDOW_SAMPLES = 512
"""Audio with one score: 32 ms, the only size that the Silero model takes at 16 kHz."""
PADDING_SAMPLES = SAMPLE_RATE * 400 // 1000
"""Kept before and after speech: 400 ms, as faster-whisper does. Silero's own 30 ms clips soft
beginnings and ends of words. Spans less than twice this apart merge."""
MIN_SILENCE_SAMPLES = SAMPLE_RATE * 100 // 1000
"""Speech ends after 100 ms of silence, Silero's default."""
MIN_SPEECH_SAMPLES = 2 * WINDOW_SAMPLES
"""Shorter speech, a single window, is a click. Silero's default of 250 ms would drop a short 'yes';
faster-whisper drops nothing."""
ENERGY_THRESHOLD_DBFS = -50.0
"""Default of ``EnergyVad``: above a usual recording's noise, below a distant talker."""


class Vad(Protocol):
    """Takes audio block by block and returns the spans of speech in it.

    Spans come in order and never overlap. A span that touches the one before it continues it: long
    speech is released piece by piece. A span ends at or before the last sample pushed, and is
    released at most MAX_LAG_SAMPLES after its start was pushed. The size of blocks changes where
    pieces end, but never which samples are speech. One detector serves one recording.
    """

    def push(self, block: Pcm) -> list[Span]:
        """Take the next samples, shape (n_samples,), and return the spans that became certain."""
        ...

    def finish(self) -> list[Span]:
        """Return the remaining spans; call once, after the last block."""
        ...


def make_vad(name: VadName) -> Vad:
    """Return a new detector.

    Raises:
        ModelError: the Silero model is not installed.
    """
    detectors: dict[VadName, type[Vad]] = {"silero": SileroVad, "energy": EnergyVad, "off": NoVad}
    return detectors[name]()


class NoVad:
    """Takes everything for speech."""

    def __init__(self) -> None:
        self._n_samples = 0

    def push(self, block: Pcm) -> list[Span]:
        start, self._n_samples = self._n_samples, self._n_samples + len(block)
        return [Span(start, self._n_samples)] if len(block) else []

    def finish(self) -> list[Span]:
        return []


class _ScoringVad(ABC):
    """Scores each window, and turns the scores into padded spans.

    Speech begins where a score reaches ``enter``. It ends once scores have been below ``leave`` for
    MIN_SILENCE_SAMPLES.
    """

    def __init__(self, enter: float, leave: float, n_per_batch: int) -> None:
        self._enter, self._leave = enter, leave
        self._batch_samples = n_per_batch * WINDOW_SAMPLES
        self._rest: Pcm = np.zeros(0, np.int16)
        """Samples that do not fill a batch of windows yet."""
        self._n_samples = 0
        self._position = 0
        """End of the windows scored so far."""
        self._onset: int | None = None
        """Start of the current speech, None in silence."""
        self._speech_end = 0
        self._due_start = self._due_end = 0
        """Padded speech that is not released yet; its end may lie after the position."""

    @abstractmethod
    def _score(self, windows: Pcm) -> npt.NDArray[np.float64]:
        """Return scores of a batch or more, (n_windows, WINDOW_SAMPLES) -> (n_windows,)."""

    def push(self, block: Pcm) -> list[Span]:
        self._n_samples += len(block)
        samples = np.concatenate([self._rest, block])
        n_whole = len(samples) // self._batch_samples * self._batch_samples
        self._rest = samples[n_whole:]
        return self._find(samples[:n_whole])

    def finish(self) -> list[Span]:
        spans = self._find(np.pad(self._rest, (0, -len(self._rest) % WINDOW_SAMPLES)))
        end = self._n_samples
        return [Span(s.start, min(s.end, end)) for s in spans if s.start < end]

    def _find(self, samples: Pcm) -> list[Span]:
        """Take whole windows, and return the spans that became certain."""
        spans = []
        for score in self._score(samples.reshape(-1, WINDOW_SAMPLES)).tolist():
            start, self._position = self._position, self._position + WINDOW_SAMPLES
            if score >= self._enter or (self._onset is not None and score >= self._leave):
                if self._onset is None:
                    self._onset = start
                self._speech_end = self._position
                if self._speech_end - self._onset >= MIN_SPEECH_SAMPLES:
                    padded_start = max(0, self._onset - PADDING_SAMPLES)
                    if padded_start > self._due_end:
                        spans += self._release(self._due_end)
                        self._due_start = padded_start
                    self._due_end = self._speech_end + PADDING_SAMPLES
            elif self._position - self._speech_end >= MIN_SILENCE_SAMPLES:
                self._onset = None
        return spans + self._release(self._position)

    def _release(self, until: int) -> list[Span]:
        start, end = self._due_start, min(self._due_end, until)
        if start >= end:
            return []
        self._due_start = end
        return [Span(start, end)]


class EnergyVad(_ScoringVad):
    """Takes loud windows for speech: those with an RMS of ``threshold_dbfs`` or more."""

    _HYSTERESIS_DB = 6.0

    def __init__(self, threshold_dbfs: float = ENERGY_THRESHOLD_DBFS) -> None:
        super().__init__(threshold_dbfs, threshold_dbfs - self._HYSTERESIS_DB, n_per_batch=1)

    def _score(self, windows: Pcm) -> npt.NDArray[np.float64]:
        """Return levels: 0 dBFS is full scale, and digital silence -120 dBFS."""
        mean_squares = np.square(windows / 32768.0).mean(axis=1)
        return np.asarray(10 * np.log10(mean_squares + 1e-12))


class SileroVad(_ScoringVad):
    """Scores windows by the Silero network, which remembers the windows before.

    Speech begins at a probability of 0.3 and lasts while it is 0.2 or more. Silero's defaults, 0.5
    and 0.35, sometimes lose a word that stands alone, such as a "hello" before a pause. These
    thresholds do not, and let no more noise or music through (docs/fidelity.md).
    """

    _ENTER, _LEAVE = 0.3, 0.2
    _LEAST_PEAK, _MOST_GAIN = 0.03, 300.0
    """A recording whose peaks are lower, about -30 dBFS, is judged as if they were that high."""
    _PEAK_LASTS = 0.98
    """Share of a peak that is remembered a batch later: 20 dB are forgotten in a minute, so that
    a pause is not taken for a quiet recording."""
    _CONTEXT_SAMPLES = 64
    """The network hears these samples of the window before as well."""
    _BATCH_WINDOWS = 16
    """Windows per call of the network: 0.5 s. The number is fixed because it changes the last bits
    of the probabilities, and spans must not depend on the size of the blocks pushed."""

    def __init__(self) -> None:
        super().__init__(self._ENTER, self._LEAVE, self._BATCH_WINDOWS)
        self._session = _silero_session()
        self._context = np.zeros(self._CONTEXT_SAMPLES, np.float32)
        self._peak = 0.0
        """Of what was judged lately."""
        self._h = self._c = np.zeros((1, 1, 128), np.float32)

    def _score(self, windows: Pcm) -> npt.NDArray[np.float64]:
        n_batch = self._BATCH_WINDOWS
        batches = [windows[at : at + n_batch] for at in range(0, len(windows), n_batch)]
        return np.concatenate([np.zeros(0), *map(self._judge, batches)])

    def _judge(self, windows: Pcm) -> npt.NDArray[np.float64]:
        """Return the probabilities of one batch."""
        samples = windows.astype(np.float32) / 32768
        self._peak = max(float(np.abs(samples).max()), self._peak * self._PEAK_LASTS)
        samples *= max(1.0, min(self._LEAST_PEAK / max(self._peak, 1e-9), self._MOST_GAIN))
        tails = samples[:, -self._CONTEXT_SAMPLES :]
        contexts = np.concatenate([self._context[np.newaxis], tails[:-1]])
        self._context = tails[-1]
        inputs = {"input": np.hstack([contexts, samples]), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = self._session.run(None, inputs)
        return np.asarray(probabilities, np.float64)


@cache
def _silero_session() -> "onnxruntime.InferenceSession":
    """Load the model, once per process.

    Raises:
        ModelError: onnxruntime or the package that carries the model is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("The Silero VAD needs onnxruntime, which is not installed.") from error
    # Importing faster_whisper would load CTranslate2 as well.
    wheel = find_spec("faster_whisper")
    if wheel is None or wheel.origin is None:
        raise ModelError("The Silero VAD needs the faster-whisper package for its model file.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    model = Path(wheel.origin).parent / "assets" / "silero_vad_v6.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
