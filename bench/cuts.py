"""What cutting costs: chunks cut in speech against stretches cut between sentences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import jiwer
import numpy as np
import numpy.typing as npt

from bench.audio import to_pcm
from bench.pipeline import Outcome, infer, transcribe
from bench.speech import Recital, add_noise, heldout, recite
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk
from worker.engines.protocol import DecodeOptions, Engine

DURATION_S = 1200
NEAR_S = 1.0
SHORT_SHARE = 0.5
"""Share of the model's window. Half the window doubles the cuts, so enough words lie near one."""
SNR_DB = 20


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Word errors near cuts and elsewhere; a ratio of 1 says that cutting costs nothing."""

    n_near: int
    n_interior: int
    wer_near: float
    wer_interior: float


def run(name: str, engine: Engine, window_s: float) -> None:
    """Print the table of one model, on speech with and without pauses, and with noise.

    "Uncut" are stretches of whole sentences, as many as fit the model's window, each in one call.
    """
    print(f"-- {name}: {DURATION_S / 60:g} min of sentences, cut in speech where there is no pause")
    print(
        f"{'speech':<14}{'window s':>9}{'cuts':>6}{'WER %':>7}{'uncut %':>9}"
        f"{'letters as uncut %':>20}{'near cuts: words':>18}{'WER %':>7}{'elsewhere %':>13}"
    )
    for speech, gaps_s, snr_db in (
        ("with pauses", (0.1, 1.0), None),
        ("without", (0.0, 0.0), None),
        ("noisy", (0.0, 0.0), SNR_DB),
    ):
        rng = np.random.default_rng(1)
        recital = recite(heldout(), DURATION_S, rng, gaps_s)
        samples = recital.samples
        if snr_db is not None:
            level = float(np.sqrt(np.mean(np.square(samples))))
            samples = add_noise(samples, snr_db, "pink", rng, level)
        pcm = to_pcm(samples)
        uncut = transcribe_uncut(engine, recital, pcm, window_s)
        for window in (window_s, window_s * SHORT_SHARE):
            outcome = transcribe([pcm], engine, vad="off", window_s=window)
            text = " ".join(word.text for word in outcome.words)
            near = accuracy(recital, outcome)
            print(
                f"{speech:<14}{window:>9g}{len(outcome.cuts_s):>6}"
                f"{100 * jiwer.wer(recital.text, text):>7.2f}"
                f"{100 * jiwer.wer(recital.text, uncut):>9.2f}"
                f"{100 * (1 - jiwer.cer(uncut, text)):>20.3f}"
                f"{near.n_near:>18}{100 * near.wer_near:>7.2f}{100 * near.wer_interior:>13.2f}",
                flush=True,
            )


def transcribe_uncut(engine: Engine, recital: Recital, pcm: Pcm, window_s: float) -> str:
    """Return the words of stretches that begin and end between sentences, one item for each."""
    borders = [0]
    for span, following in pairwise(recital.spans):
        if following.end - borders[-1] > window_s * SAMPLE_RATE:
            borders.append((span.end + following.start) // 2)
    stretches = [
        Chunk(index, start, end, 0, 0)
        for index, (start, end) in enumerate(pairwise([*borders, len(pcm)]))
    ]
    whole = ((stretch, Span(0, stretch.n_samples)) for stretch in stretches)
    hypotheses = infer(engine, pcm, whole, DecodeOptions())
    return " ".join(word.text.strip() for heard in hypotheses for word in heard.words)


def accuracy(recital: Recital, outcome: Outcome, near_s: float = NEAR_S) -> Accuracy:
    """Compare word error rates within ``near_s`` of a cut and elsewhere."""
    times_s = word_times_s(recital)
    cuts_s = np.array(outcome.cuts_s)
    is_near = np.zeros(len(times_s), bool)
    if len(cuts_s):
        is_near = np.abs(times_s[:, np.newaxis] - cuts_s).min(axis=1) <= near_s
    errors = errors_per_word(recital.text.split(), [word.text for word in outcome.words])
    n_near = int(is_near.sum())
    return Accuracy(
        n_near=n_near,
        n_interior=len(is_near) - n_near,
        wer_near=float(errors[is_near].sum() / max(1, n_near)),
        wer_interior=float(errors[~is_near].sum() / max(1, len(is_near) - n_near)),
    )


def word_times_s(recital: Recital) -> npt.NDArray[np.float64]:
    """Say when each word is spoken, about: a clip's words share its time by their letters."""
    times: list[float] = []
    for span, text in zip(recital.spans, recital.texts, strict=True):
        letters = np.array([len(word) for word in text.split()])
        middles = (np.cumsum(letters) - letters / 2) / letters.sum()
        times += ((span.start + middles * (span.end - span.start)) / SAMPLE_RATE).tolist()
    return np.array(times)


def errors_per_word(spoken: Sequence[str], heard: Sequence[str]) -> npt.NDArray[np.int64]:
    """Charge each error to a word spoken: an insertion to the word that it stands before."""
    charged: Counter[int] = Counter()
    if not heard:
        return np.ones(len(spoken), np.int64)
    (alignment,) = jiwer.process_words(" ".join(spoken), " ".join(heard)).alignments
    for part in alignment:
        if part.type == "insert":
            charged[min(part.ref_start_idx, len(spoken) - 1)] += (
                part.hyp_end_idx - part.hyp_start_idx
            )
        elif part.type != "equal":
            charged.update(range(part.ref_start_idx, part.ref_end_idx))
    return np.array([charged[index] for index in range(len(spoken))], np.int64)
