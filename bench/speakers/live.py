"""``python -m bench live_speakers FOLDER``: whose finals a live session says they are.

The recordings of a folder (audio with .rttm) are sent to a session of the core, whose finals are
heard by the diarizer. What each speaker's label should be is what makes the fewest errors.
"""

import itertools
import time
import wave
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.pipeline import as_float
from shared.models.entries import DiarizationModel
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.live.events import Ask, Effect, Final
from shared.speech.live.options import LiveOptions
from shared.speech.live.requests import LiveAnswer
from shared.speech.live.session import LiveSession
from shared.speech.speakers.online import OnlineSpeakers
from worker.diarization import load_diarizer
from worker.diarization.voices import HearsVoices

MESSAGE_BYTES = 3_200


@dataclass(frozen=True, slots=True)
class _Utterance:
    start_s: float
    pcm: bytes


def run(folders: Sequence[Path], diarizer: DiarizationModel) -> None:
    """Print a row for each recording of the folders."""
    loaded = load_diarizer(diarizer)
    if not isinstance(loaded, HearsVoices):
        raise SystemExit(f"{diarizer.id} hears no live voices")
    columns = ("recording", "voices", "found", "finals", "speech, s", "wrong", "nobody", "ms a s")
    print(f"{columns[0]:<24}" + "".join(f"{each:>12}" for each in columns[1:]))
    for rttm in sorted(each for folder in folders for each in folder.glob("*.rttm")):
        _print_row(rttm, loaded)


def _print_row(rttm: Path, diarizer: HearsVoices) -> None:
    lines = [line.split() for line in rttm.read_text(encoding="utf-8").splitlines()]
    truth = [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in lines if f]
    speakers = OnlineSpeakers()
    told: Counter[tuple[int | None, str]] = Counter()
    """Seconds of speech that are in a voice's turns, by its label and who really speaks."""
    utterances = _utterances(rttm.with_suffix(".wav"))
    cpu_s = heard_s = 0.0
    for utterance in utterances:
        audio = as_float(np.frombuffer(utterance.pcm, "<i2"))
        began = time.process_time()
        voices = diarizer.voices(audio)
        labels = speakers.labels(voices)
        cpu_s += time.process_time() - began
        heard_s += len(audio) / SAMPLE_RATE
        for voice, label in zip(voices, labels, strict=True):
            for turn_start_s, turn_end_s in voice.turns:
                for start_s, end_s, who in truth:
                    begin = max(utterance.start_s + turn_start_s, start_s)
                    told[label, who] += max(0.0, min(utterance.start_s + turn_end_s, end_s) - begin)
    total = sum(told.values())
    nobody = sum(seconds for (label, _), seconds in told.items() if label is None)
    people = sorted({who for _, _, who in truth})
    right = _most_right(told, people, len(speakers))
    cells = (
        *(f"{len(people)}", f"{len(speakers)}", f"{len(utterances)}", f"{total:.0f}"),
        *(f"{(total - nobody - right) / total:.1%}", f"{nobody / total:.1%}"),
        f"{1000 * cpu_s / heard_s:.0f}",
    )
    print(f"{rttm.stem:<24}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def _most_right(
    told: Counter[tuple[int | None, str]], people: Sequence[str], n_speakers: int
) -> float:
    """Return the seconds that are right if each label means whoever makes that most."""
    labels: list[int | None] = [*range(max(n_speakers, len(people)))]
    choices = itertools.permutations(labels, len(people))
    return max(
        sum(told[label, who] for label, who in zip(choice, people, strict=True))
        for choice in choices
    )


def _utterances(audio: Path) -> list[_Utterance]:
    """Return the audio of a session's finals."""
    session = LiveSession(LiveOptions(model="", partials=False))
    asked: dict[str, bytes] = {}
    found: list[_Utterance] = []

    def do(effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                asked[effect.request.id] = effect.request.pcm
                do(session.answer(LiveAnswer(effect.request.id, Hypothesis(()))))
            elif isinstance(effect, Final) and effect.answer is not None:
                found.append(_Utterance(effect.start / SAMPLE_RATE, asked[effect.answer.id]))

    with wave.open(str(audio)) as file:
        while pcm := file.readframes(MESSAGE_BYTES // 2):
            do(session.push(pcm))
    do(session.end())
    return found
