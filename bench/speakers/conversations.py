"""Conversations whose turns are known, spoken by Flite and eSpeak.

``python -m bench.speakers.conversations FOLDER`` writes the sets of docs/fidelity.md: for each a
WAV, an RTTM (who speaks when) and an STM (what is said). It needs ``flite`` and, for more than four
voices, ``espeak-ng``. Equal seeds give equal conversations.
"""

import argparse
import itertools
import subprocess
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.resampling import Resampler
from shared.speech.audio.samples import Samples

FLITE_VOICES = ("awb", "rms", "slt", "kal16")
ESPEAK_VOICES = ("en-gb+f2", "en-us+m7")
LEVEL_DBFS = -26.0
"""Root mean square of each sentence."""
NOISE_DBFS = -60.0
SILENCE_DBFS = -45.0
"""Quieter beginnings and ends of a sentence are cut off, so that turns are exact."""
GAPS_S = (0.15, 0.9)
OVERLAPS_S = (0.3, 1.0)
SENTENCES = (1, 3)
"""Fewest and most sentences of a turn."""

_SUBJECTS = (
    *("The printer on the second floor", "My sister", "Our landlord", "The new timetable"),
    *("The garden", "Nobody in the office", "The bridge", "That old violin", "The weather"),
    *("Her doctor", "The council", "A friend of mine"),
)
_VERBS = (
    *("never surprised", "has finally pleased", "nearly ruined", "will probably help"),
    *("reminded", "could not persuade", "kept troubling", "might still impress"),
)
_OBJECTS = (
    *("the whole village", "the people downstairs", "my colleagues from Norway", "our guests"),
    *("the committee", "every single customer", "the children", "anyone who asked"),
)
_TIMES = (
    *("last Thursday", "before the summer", "in the end", "after all these years"),
    *("this morning", "when it rained", "without any reason", "as far as I know"),
)


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """A turn of a conversation."""

    voice: str
    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a conversation is made of."""

    name: str
    voices: tuple[str, ...]
    seconds: float
    overlapping: float = 0.0
    """The share of turns that begin before the one before them has ended."""
    seed: int = 1


SETS = (
    Recipe("four", FLITE_VOICES, 300.0),
    Recipe("four-overlapping", FLITE_VOICES, 450.0, overlapping=0.25),
    Recipe("two", ("slt", "rms"), 120.0, seed=2),
    Recipe("six", FLITE_VOICES + ESPEAK_VOICES, 600.0, overlapping=0.1, seed=3),
)


def turns(recipe: Recipe) -> Iterator[tuple[SpokenTurn, Samples]]:
    """Yield the turns of a conversation in time order, and what is heard of each."""
    draw = np.random.default_rng(recipe.seed)
    sentences = list(itertools.product(_SUBJECTS, _VERBS, _OBJECTS, _TIMES))
    end_s, voice = 0.0, ""
    while True:
        voice = str(draw.choice([each for each in recipe.voices if each != voice]))
        chosen = draw.integers(len(sentences), size=draw.integers(*SENTENCES, endpoint=True))
        texts = [" ".join(sentences[number]) + "." for number in chosen]
        speech = _spoken(voice, " ".join(texts))
        is_early = end_s > 0 and draw.random() < recipe.overlapping
        start_s = end_s - draw.uniform(*OVERLAPS_S) if is_early else end_s + draw.uniform(*GAPS_S)
        end_s = max(end_s, start_s + len(speech) / SAMPLE_RATE)
        if end_s > recipe.seconds:
            return
        until_s = start_s + len(speech) / SAMPLE_RATE
        yield SpokenTurn(voice, start_s, until_s, " ".join(texts)), speech


def write(recipe: Recipe, folder: Path) -> None:
    """Write NAME.wav, NAME.rttm and NAME.stm. Of ten hours no more than a minute is in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(recipe.seed)
    pending = np.zeros(0, np.float32)
    written = 0
    lines: list[SpokenTurn] = []
    with wave.open(str(folder / f"{recipe.name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)

        def put(samples: Samples) -> None:
            hiss = noise.normal(0, 10 ** (NOISE_DBFS / 20), len(samples))
            file.writeframes((np.clip(samples + hiss, -1, 1) * 32767).astype("<i2").tobytes())

        for turn, speech in turns(recipe):
            lines.append(turn)
            begin = round(turn.start_s * SAMPLE_RATE) - written
            # Nothing later begins more than an overlap before this turn's start.
            if (ready := begin - round(OVERLAPS_S[1] * SAMPLE_RATE)) > SAMPLE_RATE * 30:
                put(pending[:ready])
                pending, written, begin = pending[ready:], written + ready, begin - ready
            missing = max(0, begin + len(speech) - len(pending))
            pending = np.pad(pending, (0, missing))
            pending[begin : begin + len(speech)] += speech
        put(pending)
    name, unknown = recipe.name, "<NA> <NA>"
    rttm = (
        f"SPEAKER {name} 1 {turn.start_s:.3f} {turn.end_s - turn.start_s:.3f} "
        f"{unknown} {turn.voice} {unknown}\n"
        for turn in lines
    )
    stm = (f"{name} 1 {t.voice} {t.start_s:.3f} {t.end_s:.3f} {t.text}\n" for t in lines)
    (folder / f"{name}.rttm").write_text("".join(rttm), encoding="utf-8")
    (folder / f"{name}.stm").write_text("".join(stm), encoding="utf-8")


@cache
def _spoken(voice: str, text: str) -> Samples:
    """Return a text as a voice speaks it, cut to its sound and levelled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        if voice in ESPEAK_VOICES:
            command = ["espeak-ng", "-v", voice, "-w", str(path), text]
        else:
            command = ["flite", "-voice", voice, "-t", text, "-o", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        with wave.open(str(path)) as file:
            rate, content = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(content, "<i2").astype(np.float32) / 32768
    if rate != SAMPLE_RATE:
        resampler = Resampler(rate)
        samples = np.concatenate([resampler.push(samples), resampler.rest()])
    loud = np.flatnonzero(np.abs(samples) > 10 ** (SILENCE_DBFS / 20))
    samples = samples[loud[0] : loud[-1] + 1]
    level = np.sqrt(np.mean(samples**2))
    return (samples * 10 ** (LEVEL_DBFS / 20) / level).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the usual sets, or one of another length."""
    parser = argparse.ArgumentParser(prog="bench.speakers.conversations", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", choices=[recipe.name for recipe in SETS], help="only this one")
    parser.add_argument("--hours", type=float, help="of the set, instead of its own length")
    parsed = parser.parse_args(arguments)
    for recipe in SETS:
        if parsed.set in (None, recipe.name):
            write(_lasting(recipe, parsed.hours) if parsed.hours else recipe, parsed.folder)


def _lasting(recipe: Recipe, hours: float) -> Recipe:
    return replace(recipe, name=f"{recipe.name}-{hours:g}h", seconds=hours * 3600)


if __name__ == "__main__":
    main()
