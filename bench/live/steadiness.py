"""How much of a live text changes after it was shown, what its finals get wrong, and what it takes.

``python -m bench live FOLDER --catalogue CATALOGUE --model ID`` replays each recording of a
folder that has a text: a session hears it, and each request is answered by the model a fixed time
of the recording's later. So a slow machine finds the same as a fast one. ``cores`` is the processor
time of the answers to a second of the recording: what a talker takes whose answers are all on time.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np

from bench.accuracy import find_recordings
from bench.pipeline import as_float, transcribe
from bench.variants import Recording
from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.live.events import Ask, Effect, Final, Partial
from shared.speech.live.options import LiveOptions
from shared.speech.live.requests import LiveAnswer, LiveRequest
from shared.speech.live.session import LiveSession
from shared.speech.live.words import n_alike, spelling
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Engine

ANSWER_S = 0.25
"""From a request to its answer, on the recording's clock."""
FRAME_SAMPLES = SAMPLE_RATE // 50
SILENCE_S = 1.0
"""Behind a recording, so that its last segment ends."""

Hear = Callable[[LiveRequest], Hypothesis]


@dataclass
class Told:
    """What a session told of a recording."""

    shown: dict[str, list[Partial | Final]] = field(default_factory=dict)
    """By segment: its partials, and its final."""
    cpu_s: float = 0.0
    """Processor time of the answers, by all threads."""

    @property
    def finals(self) -> list[Final]:
        """The finals, in order."""
        return [event for each in self.shown.values() for event in each if isinstance(event, Final)]

    @property
    def text(self) -> str:
        """All that was said."""
        return " ".join(final.text for final in self.finals)

    @property
    def n_words(self) -> int:
        """Words of the finals."""
        return sum(len(final.words) for final in self.finals)

    @property
    def n_changed(self) -> int:
        """Words of partials that the next text of their segment replaces or leaves out."""
        return sum(_n_changed(*pair) for each in self.shown.values() for pair in pairwise(each))

    @property
    def n_erased(self) -> int:
        """The same, with all words behind one that changes: what a reader sees move."""
        return sum(
            len(older.words) - n_alike(older.words, newer.words)
            for each in self.shown.values()
            for older, newer in pairwise(each)
        )

    @property
    def n_retracted(self) -> int:
        """Committed words that a later text of their segment does not begin with."""
        return sum(
            older.n_stable - min(older.n_stable, n_alike(older.words, newer.words))
            for each in self.shown.values()
            for older, newer in pairwise(each)
            if isinstance(older, Partial)
        )


def run(folders: Sequence[Path], models: Sequence[Model]) -> None:
    """Print a line for each recording of each model."""
    for model in models:
        engine = load_engine(model)
        hear = hearing(engine, model)
        print(f"-- {model.id}")
        print(
            f"{'recording':<20}{'words':>6}{'changed':>9}{'erased':>8}{'retracted':>11}"
            f"{'errors: live':>14}{'batch':>7}{'cores':>8}"
        )
        for recording in (each for folder in folders for each in find_recordings(folder)):
            told = replay(recording.pcm, options_of(model), hear)
            outcome = transcribe(
                [recording.pcm],
                engine,
                vad=model.vad,
                window_s=model.window_s,
                options=decode_options(model),
            )
            batch = " ".join(word.text.strip() for word in outcome.words)
            print(line(recording, told, batch), flush=True)


def line(recording: Recording, told: Told, batch: str) -> str:
    """Return what is printed of a recording."""
    shares = (count / max(1, told.n_words) for count in (told.n_changed, told.n_erased))
    changed, erased = (f"{share:.2f}" for share in shares)
    return (
        f"{recording.name:<20}{told.n_words:>6}{changed:>9}{erased:>8}{told.n_retracted:>11}"
        f"{n_errors(recording.text, told.text):>14}{n_errors(recording.text, batch):>7}"
        f"{told.cpu_s * SAMPLE_RATE / len(recording.pcm):>8.3f}"
    )


def options_of(model: Model) -> LiveOptions:
    """Return the options of a session that asks for nothing."""
    return LiveOptions(model.id, language=model.only_language, vad=model.vad)


def decode_options(model: Model) -> DecodeOptions:
    """Return how requests are decoded."""
    return DecodeOptions(language=model.only_language, beam_size=model.decode.beam_size)


def hearing(engine: Engine, model: Model) -> Hear:
    """Return what a worker with this model does with a request."""

    def hear(request: LiveRequest) -> Hypothesis:
        samples = as_float(np.frombuffer(request.pcm, "<i2").astype(np.int16))
        (hypothesis,) = engine.transcribe([samples], decode_options(model))
        return hypothesis

    return hear


def replay(pcm: Pcm, options: LiveOptions, hear: Hear) -> Told:
    """Return what a session tells of a recording, at its own pace."""
    session, told = LiveSession(options), Told()
    waiting: list[tuple[int, LiveRequest]] = []

    def take(effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                due = session.n_samples + round(ANSWER_S * SAMPLE_RATE)
                waiting.append((due, effect.request))
            elif isinstance(effect, Partial | Final):
                told.shown.setdefault(effect.segment, []).append(effect)

    def answer(until: float) -> None:
        while waiting and waiting[0][0] <= until:
            _, request = waiting.pop(0)
            before_s = time.process_time()
            heard = hear(request)
            told.cpu_s += time.process_time() - before_s
            take(session.answer(LiveAnswer(request.id, heard)))

    for frame in _frames(pcm):
        take(session.push(frame.tobytes()))
        answer(session.n_samples)
    take(session.end())
    answer(float("inf"))
    return told


def n_errors(said: str, heard: str) -> int:
    """Return the words that a text has wrong, as OpenAI compares them."""
    # Other measurements need not wait seconds for this.
    from transformers.models.whisper import english_normalizer

    normalise = english_normalizer.EnglishTextNormalizer({})
    found = jiwer.process_words(normalise(said), normalise(heard))
    return int(found.insertions + found.deletions + found.substitutions)


def _frames(pcm: Pcm) -> Iterator[Pcm]:
    silence = np.zeros(round(SILENCE_S * SAMPLE_RATE), np.int16)
    whole = np.concatenate([pcm, silence])
    for start in range(0, len(whole), FRAME_SAMPLES):
        yield whole[start : start + FRAME_SAMPLES]


def _n_changed(older: Partial | Final, newer: Partial | Final) -> int:
    before, after = (" ".join(map(spelling, each.words)) for each in (older, newer))
    if not before:
        return 0
    found = jiwer.process_words(before, after)
    return int(found.substitutions + found.deletions)
