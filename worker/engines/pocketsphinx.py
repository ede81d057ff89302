"""PocketSphinx: the starter engine, whose English model is in its wheel."""

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared.infra.errors import ModelError
from shared.models.catalogue import Model
from shared.models.weight_files import digest
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from worker.engines.protocol import DecodeOptions, EngineOf, Prepared

FRAME_SAMPLES = SAMPLE_RATE // 100
"""The acoustic model's frame: 10 ms."""
SLICE_SAMPLES = 10 * FRAME_SAMPLES
"""Audio per call of the decoder. It holds the GIL during a call, and other threads, such as the
heartbeat, must run."""
MIN_SAMPLES = 10 * FRAME_SAMPLES
"""Shorter items hold no word, and the decoder refuses some of them."""
MAX_WORD_S = 2.0
"""Longer words are noise: no English word takes as long."""
LANGUAGE_WEIGHT = 5.5
"""Tuned on the sentences of samples/ in three voices: a word error rate of 6.3 %; the library's
default of 6.5 has 8.0 %."""

_PRONUNCIATION = re.compile(r"\(\d+\)$")
"""Ends the name of a word's further pronunciation in the dictionary: 'the(2)'."""


class _Sound(NamedTuple):
    pcm: bytes
    """Signed 16-bit little-endian."""
    n_samples: int
    language: str | None


class PocketSphinxEngine(EngineOf[_Sound, Hypothesis]):
    """English words with times and posteriors, on one CPU core.

    Each item is decoded twice. A cheap first pass measures its cepstral mean, so that the second
    need not estimate it from the first words. Both start with a fresh front end, so a result does
    not depend on items decoded before.
    """

    device = "cpu"
    dtype = "float32"

    def __init__(self, model: Model) -> None:
        """Load the model from the wheel.

        Raises:
            ModelError: the model is damaged, or not the one that the catalogue pins.
        """
        import pocketsphinx

        self.weights_digest = digest(Path(pocketsphinx.get_model_path("en-us")))
        if self.weights_digest != model.revision:
            raise ModelError(
                f"the installed pocketsphinx carries model {self.weights_digest}, "
                f"the catalogue pins {model.revision} for '{model.id}'"
            )
        self.version = f"pocketsphinx {installed_version('pocketsphinx')}"
        self.window_samples = round(model.window_s * SAMPLE_RATE)
        try:
            self._decoder = pocketsphinx.Decoder(
                pocketsphinx.Config(loglevel="FATAL", lw=LANGUAGE_WEIGHT)
            )
            # Keyphrase spotting is the cheapest search that uses the same front end.
            self._measurer = pocketsphinx.Decoder(
                pocketsphinx.Config(
                    loglevel="FATAL", lm=None, keyphrase="hello", kws_threshold=1e-20
                )
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"pocketsphinx cannot load model '{model.id}': {error}") from error

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[_Sound] | Hypothesis:
        """Take an item in the decoder's form; the beam size is ignored."""
        if len(samples) < MIN_SAMPLES or not samples.any():
            return Hypothesis((), options.language)
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        return Prepared(_Sound(pcm, len(samples), options.language), len(samples))

    def infer(self, batch: Sequence[Prepared[_Sound]]) -> list[Hypothesis | Prepared[_Sound]]:
        """Decode items one after another."""
        return [Hypothesis(tuple(self._decode(item.input)), item.input.language) for item in batch]

    def finish(self, raw: Hypothesis) -> Hypothesis:
        """Return the words as they were decoded."""
        return raw

    def _decode(self, sound: _Sound) -> Iterator[WordHypothesis]:
        pcm = sound.pcm
        decoder = self._decoder
        decoder.reinit_feat()
        decoder.set_cmn(self._measure_cepstral_mean(pcm))
        decoder.start_utt()
        for at in range(0, len(pcm), 2 * SLICE_SAMPLES):
            decoder.process_raw(pcm[at : at + 2 * SLICE_SAMPLES])
        decoder.end_utt()
        for segment in decoder.seg() or ():
            start = segment.start_frame * FRAME_SAMPLES
            end = min((segment.end_frame + 1) * FRAME_SAMPLES, sound.n_samples)
            # <s>, </s>, <sil>, [NOISE] and [SPEECH] are not words.
            if segment.word[0] in "<[" or end - start > MAX_WORD_S * SAMPLE_RATE:
                continue
            yield WordHypothesis(
                text=_PRONUNCIATION.sub("", segment.word),
                start=min(start, end),
                end=end,
                # The lattice posteriors' log arithmetic slightly exceeds 1.
                confidence=min(1.0, max(0.0, segment.prob)),
            )

    def _measure_cepstral_mean(self, pcm: bytes) -> str:
        measurer = self._measurer
        measurer.reinit_feat()
        measurer.start_utt()
        measurer.process_raw(pcm, no_search=True, full_utt=True)
        mean: str = measurer.get_cmn(True)
        measurer.end_utt()
        return mean
