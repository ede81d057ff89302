"""Loops put into a Whisper's answers, batch by batch: how many of them its safety net catches."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from unittest.mock import patch

import jiwer
import numpy as np

from bench.speech import heldout
from worker.engines.protocol import DecodeOptions, Engine, Prepared
from worker.engines.whisper.vocabulary import MAX_ANSWER_TOKENS
from worker.engines.whisper.whisper import Answer, Whisper

N_BATCHES, BATCH_SIZE = 50, 8
LOOPING_SHARE = 0.5
"""Of the answers that have text."""
LONGEST_PERIOD = 8
"""In tokens; the shortest is one."""
REPEATS = (4, 60)
"""The least and the most times that the period is said."""


class Injector:
    """Wraps a Whisper: puts loops into first answers, records what is decoded again.

    All items of a batch are decoded first, in their order; the features of one tell it apart.
    """

    def __init__(self, whisper: Whisper[Any], rng: np.random.Generator) -> None:
        self._answer, self._end = whisper._answer, whisper._vocabulary.end
        self._infer = whisper.infer
        self._rng = rng
        self._features: list[int] = []
        self.looping: set[int] = set()
        self.again: set[int] = set()

    def infer(self, batch: Sequence[Prepared[Any]]) -> list[Any]:
        """As the engine's own."""
        features = [id(item.input.features) for item in batch]
        if batch[0].input.attempts:
            self.again.update(self._features.index(each) for each in features)
        else:
            self._features, self.again = features, set()
        return self._infer(batch)

    def answer(
        self, encoded: Any, prompts: Sequence[Sequence[int]], temperature: float, beam_size: int
    ) -> list[Answer]:
        """As the engine's own, with loops at first."""
        answers = self._answer(encoded, prompts, temperature, beam_size)
        if temperature > 0:
            return answers
        said = dict(enumerate(answers))
        self.looping = {
            item
            for item, answer in said.items()
            if any(map(self._is_text, answer.tokens)) and self._rng.random() < LOOPING_SHARE
        }
        return [
            answer._replace(tokens=self._loop(answer.tokens)) if item in self.looping else answer
            for item, answer in said.items()
        ]

    def _is_text(self, token: int) -> bool:
        return token < self._end

    def _loop(self, tokens: Sequence[int]) -> list[int]:
        """Repeat some of the text where it stands, up to what a decoder may answer."""
        at = int(self._rng.choice([i for i, token in enumerate(tokens) if self._is_text(token)]))
        period = [*takewhile(self._is_text, tokens[at : at + LONGEST_PERIOD])]
        del period[int(self._rng.integers(1, len(period) + 1)) :]
        n_times = int(self._rng.integers(*REPEATS, endpoint=True))
        looped = [*tokens[:at], *period * n_times, *tokens[at + len(period) :]]
        return looped[:MAX_ANSWER_TOKENS]


@dataclass(frozen=True, slots=True)
class Answers:
    """The outcome of the answers that looped, or of the others."""

    n: int
    n_again: int
    """How many of them were decoded again."""
    wer: float
    """Of the words in the end."""


def run(name: str, engine: Engine) -> None:
    """Print how many loops a Whisper caught, what else it decoded again, and what came out.

    Other engines do not loop; nothing is printed for them.
    """
    if not isinstance(engine, Whisper):
        return
    print(f"-- {name}: loops in half of the answers, batches of {BATCH_SIZE}")
    print(f"{'answers':<12}{'items':>7}{'decoded again %':>17}{'WER %':>8}")
    for kind, answers in zip(("looping", "others"), measure(engine, N_BATCHES), strict=True):
        again = answers.n_again / answers.n
        print(f"{kind:<12}{answers.n:>7}{100 * again:>17.2f}{100 * answers.wer:>8.2f}")


def measure(engine: Engine, n_batches: int) -> tuple[Answers, Answers]:
    """Transcribe batches of sentences; return the answers that looped, and the others."""
    assert isinstance(engine, Whisper)
    rng = np.random.default_rng(0)
    injector = Injector(engine, rng)
    n_again: Counter[bool] = Counter()
    said: dict[bool, list[str]] = {True: [], False: []}
    heard: dict[bool, list[str]] = {True: [], False: []}
    with (
        patch.object(engine, "_answer", injector.answer),
        patch.object(engine, "infer", injector.infer),
    ):
        for _ in range(n_batches):
            clips = [heldout()[i] for i in rng.integers(len(heldout()), size=BATCH_SIZE)]
            batch = [clip.samples for clip in clips]
            hypotheses = engine.transcribe(batch, DecodeOptions(language="en"))
            for item, (clip, hypothesis) in enumerate(zip(clips, hypotheses, strict=True)):
                looped = item in injector.looping
                n_again[looped] += item in injector.again
                said[looped].append(clip.text)
                heard[looped].append(" ".join(word.text.strip() for word in hypothesis.words))
    looping, others = (
        Answers(len(said[looped]), n_again[looped], jiwer.wer(said[looped], heard[looped]))
        for looped in (True, False)
    )
    return looping, others
