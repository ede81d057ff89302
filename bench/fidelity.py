"""Are the words right, whole and in their place? The tables of docs/fidelity.md."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bench import cuts, loops, quiet, speech
from bench.audio import place_words, to_pcm, wav_of, white_noise
from bench.pipeline import Outcome, read, transcribe
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm, Samples
from shared.speech.audio.voice_activity import make_vad
from shared.speech.transcript.transcript import Word
from worker.engines.oracle import EncodedWord, OracleEngine, word_text
from worker.engines.protocol import Engine

WINDOW_S = 30.0
SWEEP_STEPS = 20
SWEEP_WORDS = 1000
HOUR_S = 3600
SPEECH_S = 600
NOISES_DB = (40, 30, 20, 10)


def run(engines: dict[str, tuple[Engine, float]]) -> None:
    """Print all tables; ``engines`` are loaded models by name, each with its window in seconds."""
    print_sweep()
    print_time_errors()
    print_speech_kept()
    quiet.run(engines)
    for name, (engine, window_s) in engines.items():
        cuts.run(name, engine, window_s)
        loops.run(name, engine)


def print_sweep() -> None:
    """Words lost and doubled as the grid of chunks moves over them, summed over all offsets."""
    print(f"-- {SWEEP_WORDS} tone words at {SWEEP_STEPS} offsets of a {WINDOW_S:g} s window")
    print(f"{'vad':<8}{'pauses':<10}{'words':>8}{'lost':>6}{'doubled':>9}{'cuts in speech':>16}")
    rng = np.random.default_rng(0)
    for vad in ("energy", "off"):
        for pauses in ("none", "some"):
            gaps_s = (
                rng.choice([0.1, 0.3, 1.0, 2.5], SWEEP_WORDS)
                if pauses == "some"
                else np.zeros(SWEEP_WORDS)
            )
            totals: Counter[str] = Counter()
            for step in range(SWEEP_STEPS):
                pcm, places = sweep_step(step, gaps_s.tolist(), WINDOW_S)
                outcome = transcribe(read(wav_of(pcm)), OracleEngine(), vad=vad, window_s=WINDOW_S)
                totals += compare(outcome, places) + Counter(cuts=len(outcome.cuts_s))
                totals["words"] += len(places)
            print(
                f"{vad:<8}{pauses:<10}{totals['words']:>8}{totals['lost']:>6}"
                f"{totals['doubled']:>9}{totals['cuts']:>16}",
                flush=True,
            )


def sweep_step(
    step: int, gaps_s: Sequence[float], window_s: float
) -> tuple[Pcm, list[EncodedWord]]:
    """Words after a lead of ``step`` twentieths of a window: silence, or noise where odd."""
    lead_s = step * window_s / SWEEP_STEPS
    pcm, places = place_words(range(1000, 1000 + len(gaps_s)), gaps_s, lead_s)
    if step % 2:
        pcm[: places[0].start] = np.concatenate([*white_noise(lead_s, -30)])
    return pcm, places


def compare(outcome: Outcome, places: Sequence[EncodedWord]) -> Counter[str]:
    """Count words 'lost', and words 'doubled' or never spoken; a word out of order is both."""
    spoken = [word_text(place.number) for place in places]
    heard = [word.text for word in outcome.words]
    lost, more = Counter(spoken) - Counter(heard), Counter(heard) - Counter(spoken)
    if not lost and not more and heard != spoken:
        moved = sum(a != b for a, b in zip(spoken, heard, strict=True))
        return Counter(lost=moved, doubled=moved)
    return Counter(lost=lost.total(), doubled=more.total())


def talk(duration_s: float, seed: int) -> tuple[Pcm, list[EncodedWord]]:
    """Return tone words; after one in twenty comes a pause of 5 to 30 s."""
    rng = np.random.default_rng(seed)
    gaps_s: list[float] = []
    while sum(gaps_s) + 0.24 * len(gaps_s) < duration_s:
        gaps_s.append(rng.uniform(5, 30) if rng.random() < 0.05 else rng.uniform(0.05, 0.6))
    return place_words(range(len(gaps_s)), gaps_s)


def time_errors_ms(
    words: Sequence[Word], places: Sequence[EncodedWord]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return, for each word's start and end, the minute it is in and how late it was reported."""
    true_s = np.array([(place.start, place.end) for place in places]) / SAMPLE_RATE
    heard_s = np.array([(word.start, word.end) for word in words])
    return true_s.reshape(-1) / 60, (heard_s - true_s).reshape(-1) * 1000


def print_time_errors() -> None:
    """How far word times are off over an hour, and whether that grows."""
    print("-- times of the tone words of an hour")
    print(f"{'vad':<8}{'words':>7}{'skipped s':>11}{'p50 ms':>8}{'p99 ms':>8}{'drift ms/min':>14}")
    pcm, places = talk(HOUR_S, seed=0)
    for vad in ("energy", "off"):
        outcome = transcribe(read(wav_of(pcm)), OracleEngine(), vad=vad, window_s=WINDOW_S)
        minutes, errors_ms = time_errors_ms(outcome.words, places)
        p50, p99 = np.percentile(np.abs(errors_ms), [50, 99])
        drift = np.polyfit(minutes, errors_ms, 1)[0]
        print(
            f"{vad:<8}{len(outcome.words):>7}{outcome.skipped_s:>11.0f}{p50:>8.2f}{p99:>8.2f}"
            f"{drift:>14.5f}",
            flush=True,
        )


def print_speech_kept() -> None:
    """How much of the speech the Silero VAD hands to the model, by level and noise."""
    print(f"-- speech kept by the Silero VAD, of {SPEECH_S} s with pauses")
    print(f"{'level dBFS':<12}{'noise':<8}{'SNR dB':>7}{'kept %':>9}{'handed over %':>15}")
    for level, colour, snr_db in conditions():
        kept, handed = speech_kept(SPEECH_S, level, colour, snr_db, seed=0)
        shown = "" if snr_db is None else f"{snr_db:g}"
        print(f"{level:<12}{colour:<8}{shown:>7}{100 * kept:>9.2f}{100 * handed:>15.1f}")


def conditions() -> Iterator[tuple[float, str, float | None]]:
    """Levels without noise, then noises at a usual level."""
    yield from ((level, "none", None) for level in (-15, -25, -35, -45))
    yield from ((-25, colour, snr_db) for colour in ("white", "pink") for snr_db in NOISES_DB)


def speech_kept(
    duration_s: float, level_dbfs: float, colour: str, snr_db: float | None, seed: int
) -> tuple[float, float]:
    """Return the share of speech samples within spans, and the share of all samples there.

    Speech is what is loud in the clean recording; ``level_dbfs`` is its RMS, and the noise is
    measured against it.
    """
    rng = np.random.default_rng(seed)
    clips = tuple(clip for clip in speech.sentences() if speech.is_clean(clip))
    recital = speech.recite(clips, duration_s, rng)
    is_speech = speech.label(recital)
    level = 10 ** (level_dbfs / 20)
    rms = np.sqrt(np.mean(np.square(recital.samples[is_speech])))
    samples = (recital.samples * (level / rms)).astype(np.float32)
    if snr_db is not None:
        samples = speech.add_noise(samples, snr_db, colour, rng, level)
    in_span = silero_mask(samples)
    return float(in_span[is_speech].mean()), float(in_span.mean())


def silero_mask(samples: Samples) -> npt.NDArray[np.bool_]:
    """Say for each sample whether it lies in a span of the Silero VAD."""
    pcm, vad = to_pcm(samples), make_vad("silero")
    mask = np.zeros(len(pcm), bool)
    spans = [
        span
        for start in range(0, len(pcm), SAMPLE_RATE)
        for span in vad.push(pcm[start : start + SAMPLE_RATE])
    ]
    for span in spans + vad.finish():
        mask[span.start : span.end] = True
    return mask
