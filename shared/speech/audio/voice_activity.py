"""Voice activity detection on a stream of audio.

The meaning of Silero's two thresholds comes from https://github.com/snakers4/silero-vad.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm, Samples
from shared.speech.audio.silero import WINDOW_SAMPLES, SileroNetwork
from shared.speech.audio.spans import Span
from shared.speech.names import VadName

MAX_LAG_SAMPLES = 2 * SAMPLE_RATE
"""A span is released within so much audio after its start. The chunk planner relies on it."""
PADDING_SAMPLES = SAMPLE_RATE * 400 // 1000
"""400 ms before and after speech are kept, as faster-whisper does. Silero's own 30 ms clips soft
beginnings and ends of words. Spans less than twice this apart merge."""
LOOK_BACK_SAMPLES = 30 * WINDOW_SAMPLES
"""Speech may begin up to 0.96 s before its onset. With padding and the batch that is judged at
once, a span is still released within MAX_LAG_SAMPLES."""
MIN_SILENCE_SAMPLES = SAMPLE_RATE * 100 // 1000
"""Speech ends after 100 ms of silence, Silero's default."""
MIN_SPEECH_SAMPLES = 2 * WINDOW_SAMPLES
"""Shorter speech, a single window, is a click. Silero's default of 250 ms drops a short 'yes'.
faster-whisper drops nothing."""
HEARD_SILENCE_SAMPLES = 30 * SAMPLE_RATE
"""Digital silence, every sample of which is zero, is heard for so long. More costs nothing: a file
of some kilobytes may hold ten hours of it."""
ENERGY_THRESHOLD_DBFS = -50.0
"""Default of ``EnergyVad``: above a usual recording's noise, below a distant talker."""


class Vad(Protocol):
    """Takes audio block by block and returns the spans of speech in it.

    Spans come in order and never overlap. Long speech is released piece by piece: a span that
    touches the one before continues it. A span ends at or before the last sample pushed, and is
    released at most MAX_LAG_SAMPLES after its start was pushed. The size of blocks changes where
    pieces end, but never which samples are speech. A detector serves one recording.
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
    """Takes everything for speech but digital silence, after the first HEARD_SILENCE_SAMPLES."""

    def __init__(self) -> None:
        self._n_samples = 0
        self._last_sound = -1

    def push(self, block: Pcm) -> list[Span]:
        begin, self._n_samples = self._n_samples, self._n_samples + len(block)
        sounds = begin + np.flatnonzero(block)
        before = np.concatenate([[self._last_sound], sounds])
        after = np.concatenate([sounds, [self._n_samples]])
        self._last_sound = int(before[-1])
        ends = np.maximum(before + 1 + HEARD_SILENCE_SAMPLES, begin)
        skips = after > ends
        starts = [begin, *after[skips].tolist()]
        stops = [*ends[skips].tolist(), self._n_samples]
        spans = map(Span, starts, stops)
        return [span for span in spans if span.start < span.end]

    def finish(self) -> list[Span]:
        return []


class _ScoringVad(ABC):
    """Scores each window, and turns the scores into padded spans.

    Speech begins where a score reaches ``enter``. Scores of at least ``leave`` that lead up to it
    belong to it, up to LOOK_BACK_SAMPLES. Speech ends once scores have been below ``leave`` for
    MIN_SILENCE_SAMPLES. So quiet words before and after louder ones are kept, but noise that never
    reaches ``enter`` is not.

    Quiet recordings are amplified until their peaks are ``least_peak``.
    """

    _BATCH_WINDOWS = 16
    """Windows that are judged at once: 0.5 s. The number changes the last bits of Silero's
    probabilities. It is fixed because spans must not depend on the size of the blocks pushed."""
    _PEAK_LASTS = 0.98
    """The remembered peak falls by this factor with each batch, 20 dB in a minute. So a pause is
    not taken for a quiet recording."""

    def __init__(self, enter: float, leave: float, *, least_peak: float, most_gain: float) -> None:
        self._enter, self._leave = enter, leave
        self._least_peak, self._most_gain = least_peak, most_gain
        self._batch_samples = self._BATCH_WINDOWS * WINDOW_SAMPLES
        self._peak = 0.0
        """Of what was judged lately."""
        self._n_silent = 0
        """Samples of digital silence since the last other sample, in whole batches."""
        self._rest: Pcm = np.zeros(0, np.int16)
        """Samples that do not fill a batch of windows yet."""
        self._n_samples = 0
        self._position = 0
        """End of the windows scored so far."""
        self._lead_start, self._lead_end = 0, -MIN_SILENCE_SAMPLES
        """Latest run of scores of at least ``leave``, short silence included."""
        self._onset: int | None = None
        """Start of the current speech, None in silence."""
        self._speech_end = 0
        self._due_start = self._due_end = 0
        """Padded speech that is not released yet; its end may lie after the position."""

    @abstractmethod
    def _judge(self, windows: Samples) -> npt.NDArray[np.float64]:
        """Return scores of a batch or less: (n_windows, WINDOW_SAMPLES) -> (n_windows,)."""

    def _score(self, windows: Pcm) -> npt.NDArray[np.float64]:
        """Return the scores of whole batches, or of the last windows."""
        batches = np.split(windows, range(self._BATCH_WINDOWS, len(windows), self._BATCH_WINDOWS))
        return np.concatenate([self._score_batch(batch) for batch in batches])

    def _score_batch(self, windows: Pcm) -> npt.NDArray[np.float64]:
        amplified = self._amplify(windows)
        self._n_silent = 0 if windows.any() else self._n_silent + windows.size
        if self._n_silent > HEARD_SILENCE_SAMPLES:
            return np.full(len(windows), -np.inf)
        return self._judge(amplified)

    def _amplify(self, windows: Pcm | Samples) -> Samples:
        """Return samples in [-1, 1] of windows in steps of 16 bits."""
        samples = windows.astype(np.float32) / np.float32(32768)
        loudest = float(np.abs(samples).max(initial=0.0))
        self._peak = max(loudest, self._peak * self._PEAK_LASTS)
        gain = min(self._least_peak / max(self._peak, 1e-9), self._most_gain)
        return samples * np.float32(max(1.0, gain))

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
        if not len(samples):
            return self._release(self._position)
        spans = []
        for score in self._score(samples.reshape(-1, WINDOW_SAMPLES)).tolist():
            start, self._position = self._position, self._position + WINDOW_SAMPLES
            if score >= self._leave:
                if start - self._lead_end >= MIN_SILENCE_SAMPLES:
                    self._lead_start = start
                self._lead_end = self._position
            if score >= self._enter or (self._onset is not None and score >= self._leave):
                if self._onset is None:
                    self._onset = start
                self._speech_end = self._position
                if self._speech_end - self._onset >= MIN_SPEECH_SAMPLES:
                    lead_start = max(self._lead_start, self._onset - LOOK_BACK_SAMPLES)
                    padded_start = max(0, lead_start - PADDING_SAMPLES)
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
    """Takes windows with an RMS of ``threshold_dbfs`` or more for speech.

    Recordings whose peaks are below -20 dBFS are amplified to that, by 40 dB at most.
    """

    _HYSTERESIS_DB = 6.0

    def __init__(self, threshold_dbfs: float = ENERGY_THRESHOLD_DBFS) -> None:
        super().__init__(
            threshold_dbfs, threshold_dbfs - self._HYSTERESIS_DB, least_peak=0.1, most_gain=100.0
        )

    def _judge(self, windows: Samples) -> npt.NDArray[np.float64]:
        """Return levels: 0 dBFS is full scale, and digital silence -120 dBFS."""
        mean_squares = np.square(windows, dtype=np.float64).mean(axis=1)
        return np.asarray(10 * np.log10(mean_squares + 1e-12))


class SileroVad(_ScoringVad):
    """Scores windows by the Silero network, which remembers the windows before.

    Speech begins at a probability of 0.3 and lasts while it is 0.05 or more. Silero's defaults are
    0.5 and 0.35. With 0.2 instead of 0.05 the first words of a quiet speaker are lost. With 0.2
    instead of 0.3 some noise and music pass (docs/fidelity.md).

    Recordings whose peaks are below -30 dBFS are amplified to that.
    """

    _DITHER_STEPS = 0.5
    """RMS of the noise under all audio, in steps of 16 bits: -96 dBFS. Speech of a few steps has
    gaps of exact silence and steep edges, which the network does not take for speech. Noise of half
    a step smooths them, so that speech with peaks of 3 steps is still found."""

    def __init__(self) -> None:
        super().__init__(0.3, 0.05, least_peak=0.03, most_gain=300.0)
        self._network = SileroNetwork()
        shape = (self._BATCH_WINDOWS, WINDOW_SAMPLES)
        noise = np.random.default_rng(0).normal(0.0, self._DITHER_STEPS, shape)
        self._dither = noise.astype(np.float32)
        """The same for each batch, as equal audio has equal spans."""

    def _amplify(self, windows: Pcm | Samples) -> Samples:
        return super()._amplify(windows + self._dither[: len(windows)])

    def _judge(self, windows: Samples) -> npt.NDArray[np.float64]:
        """Return probabilities of speech."""
        return self._network(windows)
