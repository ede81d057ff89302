"""``python -m bench speakers FOLDER``: error rates of diarization on recordings with an RTTM.

The scores are those of pyannote.metrics (DER) and meeteval (cpWER), which are installed into an
environment of their own. cpWER is computed where an STM says what was said: words are transcribed,
and given to speakers as those of jobs are.
"""

import json
import resource
import subprocess
import time
import venv
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.pipeline import as_float, read, transcribe
from shared.models.catalogue import Model
from shared.models.entries import DiarizationModel
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.speakers.assign import SpeakerLabels
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import load_diarizer
from worker.diarization.protocol import CONTEXT_S, Activities, Diarization, Diarizer
from worker.engines import load_engine

SPAN_S = 600.0
SCORERS = ("pyannote.metrics==4.2.0", "meeteval==0.4.3")
ENVIRONMENT = Path.home() / ".cache" / "longhand-bench" / "scores"
_SCORES = Path(__file__).with_name("scores.py")


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard in a recording."""

    activities: list[Activities]
    seconds: float
    cpu_s: float
    """Processor time of ``local`` on all spans."""
    size_bytes: int
    """Of all spans together."""


def run(folders: Sequence[Path], diarizer: DiarizationModel, models: Sequence[Model]) -> None:
    """Print a row for each recording of the folders, and the process's peak memory after it.

    With a model the words are transcribed too, where an STM is there.
    """
    loaded = load_diarizer(diarizer)
    columns = ("recording", "voices", "found", "DER", "missed", "false", "confused")
    more = ("with count", "x real time", "clustered, s", "KB a span", "peak, MB", "WER", "cpWER")
    print(f"{columns[0]:<24}" + "".join(f"{each:>13}" for each in (*columns[1:], *more)))
    for folder in folders:
        # The shortest first, as the peak is that of the process.
        for rttm in sorted(folder.glob("*.rttm"), key=lambda each: each.stat().st_size):
            _print_row(rttm, loaded, models)


def _print_row(rttm: Path, diarizer: Diarizer, models: Sequence[Model]) -> None:
    audio, stm = rttm.with_suffix(".wav"), rttm.with_suffix(".stm")
    lines = [line.split() for line in rttm.read_text(encoding="utf-8").splitlines()]
    truth = [(float(f[3]), float(f[3]) + float(f[4]), f[7]) for f in lines if f]
    n_voices = len({who for _, _, who in truth})
    heard = hear(audio, diarizer)
    began = time.process_time()
    free = diarizer.cluster(heard.activities, SpeakerHints())
    cluster_cpu_s = time.process_time() - began
    counted = diarizer.cluster(heard.activities, SpeakerHints(count=n_voices))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    asked: dict[str, Any] = {
        "truth": truth,
        "found": {"free": _turns(free), "counted": _turns(counted)},
    }
    if models and stm.exists():
        asked["words"] = _words(audio, models[0], free)
        asked["stm"] = stm.read_text(encoding="utf-8")
    scores = _scored(asked)
    rates = scores["free"]
    n_spans, speed = len(heard.activities), heard.seconds / (heard.cpu_s + cluster_cpu_s)
    cells = [
        *(f"{n_voices}", f"{len(free.centroids)}"),
        *(f"{rates[each]:.1%}" for each in ("der", "missed", "false", "confused")),
        *(f"{scores['counted']['der']:.1%}", f"{speed:.1f}"),
        *(f"{cluster_cpu_s:.1f}", f"{heard.size_bytes / n_spans / 1000:.0f}", f"{peak_mb:.0f}"),
        *(f"{scores[each]:.1%}" if each in scores else "-" for each in ("wer", "cpwer")),
    ]
    print(f"{rttm.stem:<24}" + "".join(f"{cell:>13}" for cell in cells), flush=True)


def hear(audio: Path, diarizer: Diarizer) -> Heard:
    """Hear a WAV (16 kHz, mono) span by span, as the steps of a job do."""
    activities: list[Activities] = []
    cpu_s, size_bytes = 0.0, 0
    with wave.open(str(audio)) as file:
        rate, length = file.getframerate(), file.getnframes()
        if (rate, file.getnchannels()) != (SAMPLE_RATE, 1):
            raise SystemExit(f"{audio.name} is not of 16 kHz and one channel")
        span, context = round(SPAN_S * rate), round(CONTEXT_S * rate)
        for start in range(0, length, span):
            begin, end = max(0, start - context), min(length, start + span + context)
            file.setpos(begin)
            pcm = np.frombuffer(file.readframes(end - begin), "<i2")
            began = time.process_time()
            heard = diarizer.local(as_float(pcm), begin / rate)
            cpu_s += time.process_time() - began
            content = heard.to_bytes()
            size_bytes += len(content)
            activities.append(Activities.from_bytes(content))
    return Heard(activities, length / rate, cpu_s, size_bytes)


def _turns(diarization: Diarization) -> list[tuple[float, float, str]]:
    return [(t.start_s, t.end_s, str(t.speaker)) for t in diarization.turns]


def _words(audio: Path, model: Model, diarization: Diarization) -> list[tuple[str, str]]:
    """Return the words of a recording, and their speakers as a job's words are given them."""
    with audio.open("rb") as file:
        labels = SpeakerLabels(diarization.turns)
        outcome = transcribe(
            read(file),
            load_engine(model),
            vad=model.vad,
            window_s=model.window_s,
            label=labels.label,
        )
    return [
        (word.text, "" if word.speaker is None else str(word.speaker)) for word in outcome.words
    ]


def _scored(asked: dict[str, Any]) -> dict[str, Any]:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *SCORERS], check=True)
    done = subprocess.run(
        [python, _SCORES], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    scores: dict[str, Any] = json.loads(done.stdout)
    return scores
