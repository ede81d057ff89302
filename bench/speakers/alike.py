"""``python -m bench.speakers.alike FOLDER``: whose voices are taken for whose.

Each recording of the folder is of one person, whose name is the file's up to its first digit. The
voice of the first half is what is remembered of them, and pieces of the other half are recognized,
each beside all other people's voices.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from bench.pipeline import as_float, read
from shared.models.catalogue import load_catalogue
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.speakers.recognition import SAME_PERSON, Vectors
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import load_diarizer
from worker.diarization.protocol import Diarizer

REMEMBERED_S = 60.0
"""The most of a person that is remembered."""
PIECES_S = (5.0, 10.0, 30.0)
LIMITS = (0.5, 0.6, 0.65, SAME_PERSON, 0.75)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print, for pieces of each length, how alike voices are and what limits make of that."""
    parser = argparse.ArgumentParser(prog="python -m bench.speakers.alike")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--catalogue", type=Path, default=Path("models.toml"))
    asked = parser.parse_args(arguments)
    diarizer = load_diarizer(load_catalogue(asked.catalogue).diarizers["campplus-seg3"])
    people: dict[str, list[tuple[Vectors, Samples]]] = {}
    for folder in asked.folders:
        for path in sorted(folder.iterdir()):
            if path.suffix in {".wav", ".flac", ".mp3"}:
                with path.open("rb") as file:
                    audio = as_float(np.concatenate([*read(file)]))
                half = len(audio) // 2
                kept = audio[: min(half, round(REMEMBERED_S * SAMPLE_RATE))]
                name = "".join(takewhile(lambda c: not c.isdigit(), path.stem))
                if len(voice := _voice(diarizer, kept)):
                    people.setdefault(name, []).append((voice, audio[half:]))
                else:
                    print(f"{path.name}: nobody speaks")
    print(f"{len(people)} people: {', '.join(people)}")
    print(f"{'pieces of':<12}{'own':>24}{'others':>26}  limit: not found, wrong")
    for seconds in PIECES_S:
        own, others = [], []
        for name, recordings in people.items():
            for _, rest in recordings:
                for piece in _pieces(rest, seconds):
                    voice = _voice(diarizer, piece)
                    if not len(voice):
                        continue  # nobody is heard, and nobody is named
                    for other, theirs in people.items():
                        alike = max(float((voice @ known.T).max()) for known, _ in theirs)
                        (own if other == name else others).append(alike)
        print(f"{seconds:<10g} s{_spread(own):>24}{_spread(others):>26}  {_errors(own, others)}")


def _voice(diarizer: Diarizer, audio: Samples) -> Vectors:
    """Return how the only person in a stretch of audio sounds, if anybody: (0 or 1, n_features)."""
    return diarizer.cluster([diarizer.local(audio, 0.0)], SpeakerHints(count=1)).centroids


def _pieces(audio: Samples, seconds: float) -> Iterator[Samples]:
    length = round(seconds * SAMPLE_RATE)
    for start in range(0, len(audio) - length + 1, length):
        yield audio[start : start + length]


def _spread(values: Sequence[float]) -> str:
    least, middle, most = np.quantile(values, (0, 0.5, 1)) if values else (np.nan,) * 3
    return f"{len(values)}: {least:.2f} {middle:.2f} {most:.2f}"


def _errors(own: Sequence[float], others: Sequence[float]) -> str:
    return "; ".join(
        f"{limit:g}: {sum(each < limit for each in own)}, {sum(each >= limit for each in others)}"
        for limit in LIMITS
    )


if __name__ == "__main__":
    main()
