"""Whisper, whichever library computes: from an item's audio to its words."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Decoding, Hypothesis, WordHypothesis
from shared.speech.text.repetition import compression_ratio
from worker.engines.protocol import DecodeOptions, DecodeTask, EngineOf, Prepared, is_silent
from worker.engines.whisper.fallback import TEMPERATURES, Attempt, Outcome, settle
from worker.engines.whisper.vocabulary import Vocabulary
from worker.engines.whisper.word_times import Alignment, time_words

WINDOW_SAMPLES = 30 * SAMPLE_RATE
"""A Whisper takes exactly 30 s; shorter items are padded with silence."""
FRAME_SAMPLES = SAMPLE_RATE // 50
"""20 ms: one frame of the encoder's output."""
REHEARSED_TOKENS = 12
"""Tokens decoded to compare batch sizes; a window of speech has about 100. With few of them what a
window costs once, its keys and values of cross-attention, hides what a batch gains."""
SAMPLED_ANSWERS = 5
"""Answers drawn at temperatures above 0, of which the likeliest is taken: OpenAI's ``best_of``."""
SEED = 0
"""Seed of the random generators of fallback, set once. Items without fallback always have the same
result. Items with fallback have it if the same items come in the same order to a single stream."""

Features = Any
"""An item's logarithmic mel spectrum, shape (n_bands, n_frames), float32 array or tensor."""
EncodedT = TypeVar("EncodedT")
"""A library's own form of the encoder's output for several items."""
Prompts = Sequence[Sequence[int]]
"""Tokens for each item."""


class Answer(NamedTuple):
    """The decoder's output for one item."""

    tokens: Sequence[int]
    """Text and timestamps, without the prompt and the end of text."""
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities, the end of text among them."""
    no_speech_prob: float


class Language(NamedTuple):
    """The language of an item, and its probability if it was detected."""

    code: str
    probability: float | None


@dataclass(frozen=True, slots=True)
class Window:
    """An item between the acts: what is known of it so far."""

    features: Features
    n_samples: int
    """Of the item itself."""
    task: DecodeTask
    beam_size: int
    before: tuple[int, ...]
    """Prompt and hotwords as tokens of previous text."""
    language: Language | None
    """None until it is detected."""
    kept: Any = None
    """What ``_keep`` returns of the item, once an attempt has failed."""
    attempts: tuple[Attempt, ...] = ()

    @property
    def temperature(self) -> float:
        """At which it is to be decoded next."""
        return TEMPERATURES[len(self.attempts)]


class Spoken(NamedTuple):
    """An item's settled answer, and the attention by which its words are timed."""

    language: Language
    n_samples: int
    outcome: Outcome
    attention: Any
    """In the library's own form; None where nothing was said."""
    decoding: Decoding | None = None
    """None where nothing was decoded."""


class Whisper(EngineOf[Window, Spoken], Generic[EncodedT]):
    """Detects languages, decodes with fallback, and times words; subclasses compute.

    Language, task and prompt are each item's own. Items share a call if their prompts are equally
    long and they are decoded at the same temperature with the same beam. An item is encoded once.
    """

    window_samples = WINDOW_SAMPLES

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        self._beam_size = model.decode.beam_size
        self._timestamps = model.decode.timestamps
        self._known = model.languages
        self._vocabulary = vocabulary

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[Window] | Hypothesis:
        """Compute the features of an item of at most 30 s, and the tokens before its answer."""
        if is_silent(samples):
            return Hypothesis((), options.language)
        language = None
        if options.language is not None or not self._vocabulary.multilingual:
            language = Language(options.language or "en", None)
            self._start(language, options.task)  # an unknown language fails here, alone
        before = self._vocabulary.previous_text(options.prompt, options.hotwords)
        window: Window = Window(
            self._features_of(samples),
            len(samples),
            options.task,
            options.beam_size,
            tuple(before),
            language,
        )
        return _prepared(window)

    def infer(self, batch: Sequence[Prepared[Window]]) -> list[Spoken | Prepared[Window]]:
        """Encode, decode and align a batch; what fails the checks is to be decoded once more."""
        windows = [item.input for item in batch]
        encoded = self._encode_all(windows)
        languages = self._languages(windows, encoded)
        if windows[0].task == "detect":
            nothing = Outcome((), loop_suspected=False)
            return [
                Spoken(language, window.n_samples, nothing, None)
                for window, language in zip(windows, languages, strict=True)
            ]
        starts = [
            self._start(language, window.task)
            for window, language in zip(windows, languages, strict=True)
        ]
        untimed = [] if self._timestamps else [self._vocabulary.no_timestamps]
        prompts = [
            [*window.before, *start, *untimed]
            for window, start in zip(windows, starts, strict=True)
        ]
        answers = self._answer(encoded, prompts, windows[0].temperature, windows[0].beam_size)
        attempts = [
            (*window.attempts, self._attempt(answer))
            for window, answer in zip(windows, answers, strict=True)
        ]
        outcomes = [settle(made) for made in attempts]
        attention = self._attention(windows, encoded, starts, outcomes)
        results: list[Spoken | Prepared[Window]] = []
        for i, (window, outcome) in enumerate(zip(windows, outcomes, strict=True)):
            if outcome is not None:
                decoding = _decoding(attempts[i][outcome.chosen], outcome.chosen)
                spoken = Spoken(languages[i], window.n_samples, outcome, attention.get(i), decoding)
                results.append(spoken)
            else:
                again = replace(
                    window,
                    language=languages[i],
                    kept=self._keep(encoded, i),
                    attempts=attempts[i],
                )
                results.append(_prepared(again))
        return results

    def finish(self, raw: Spoken) -> Hypothesis:
        """Time an item's words."""
        (code, probability), segments = raw.language, raw.outcome.segments
        words: tuple[WordHypothesis, ...] = ()
        if raw.attention is not None:
            alignment = self._place(raw.attention)
            words = time_words(segments, alignment, self._vocabulary, raw.n_samples)
        suspected = raw.outcome.loop_suspected
        return Hypothesis(words, code, probability, suspected, decoding=raw.decoding)

    def rehearsal(self) -> Callable[[int], object]:
        """Decode some tokens of so many items: encoding takes as long in batches of all sizes."""
        noise = np.random.default_rng(SEED).normal(0.0, 0.1, SAMPLE_RATE).astype(np.float32)
        kept = self._keep(self._encode([self._features_of(noise)]), 0)
        return lambda n_items: self._say(self._join([kept] * n_items), REHEARSED_TOKENS)

    def _encode_all(self, windows: Sequence[Window]) -> EncodedT:
        """Encode items that are new; the items of one group all are, or none is."""
        kept = [window.kept for window in windows if window.kept is not None]
        if kept:
            return self._join(kept)
        return self._encode([window.features for window in windows])

    def _languages(self, windows: Sequence[Window], encoded: EncodedT) -> list[Language]:
        """Return each item's language; one call detects those that are not known."""
        unknown = [i for i, window in enumerate(windows) if window.language is None]
        detected = self._detect(self._select(encoded, unknown)) if unknown else []
        found = dict(zip(unknown, map(self._likeliest, detected), strict=True))
        return [window.language or found[i] for i, window in enumerate(windows)]

    def _attention(
        self,
        windows: Sequence[Window],
        encoded: EncodedT,
        starts: Prompts,
        outcomes: Sequence[Outcome | None],
    ) -> dict[int, Any]:
        """Return the attention of the items that are settled and have text, by index."""
        texts = {
            i: [token for segment in outcome.segments for token in segment.tokens]
            for i, outcome in enumerate(outcomes)
            if outcome is not None and outcome.segments
        }
        if not texts:
            return {}
        n_frames = [-(-windows[i].n_samples // FRAME_SAMPLES) for i in texts]
        aligned = self._align(
            self._select(encoded, list(texts)),
            [starts[i] for i in texts],
            list(texts.values()),
            n_frames,
        )
        return dict(zip(texts, aligned, strict=True))

    def _start(self, language: Language, task: DecodeTask) -> list[int]:
        said: Literal["transcribe", "translate"] = "transcribe" if task == "detect" else task
        return self._vocabulary.start_sequence(language.code, said)

    def _likeliest(self, shares: dict[str, float]) -> Language:
        """Return the likeliest of the catalogue's languages of the model, and its probability.

        The probability is among all languages of the vocabulary, so it is low for speech in a
        language that the catalogue does not list.
        """
        known = [code for code in shares if self._known is None or code in self._known]
        best = max(known or shares, key=lambda code: shares[code])
        return Language(best, min(1.0, shares[best]))

    def _attempt(self, answer: Answer) -> Attempt:
        segments = self._vocabulary.split_segments(answer.tokens)
        text = "".join(self._vocabulary.decode(segment.tokens) for segment in segments)
        return Attempt(segments, text.strip(), answer.avg_logprob, answer.no_speech_prob)

    @abstractmethod
    def _features_of(self, samples: Samples) -> Features:
        """Compute the features of an item of at most 30 s, on any thread."""

    @abstractmethod
    def _encode(self, features: Sequence[Features]) -> EncodedT:
        """Run the encoder."""

    @abstractmethod
    def _select(self, encoded: EncodedT, items: Sequence[int]) -> EncodedT:
        """Return the encoder's output of some of the items."""

    @abstractmethod
    def _keep(self, encoded: EncodedT, item: int) -> Any:
        """Return what is needed of an item to decode it once more, without encoding it."""

    @abstractmethod
    def _join(self, kept: Sequence[Any]) -> EncodedT:
        """Make a batch of what was kept of several items."""

    @abstractmethod
    def _detect(self, encoded: EncodedT) -> list[dict[str, float]]:
        """Return each item's probabilities of all languages, by ISO 639 code."""

    @abstractmethod
    def _answer(
        self, encoded: EncodedT, prompts: Prompts, temperature: float, beam_size: int
    ) -> list[Answer]:
        """Decode each item after its prompt; all prompts have the same length.

        At temperature 0 the decoder searches with a beam; above 0 it draws ``SAMPLED_ANSWERS``.
        """

    @abstractmethod
    def _say(self, encoded: EncodedT, n_tokens: int) -> None:
        """Decode so many tokens for each item, with the model's own beam, whatever they are."""

    @abstractmethod
    def _align(
        self,
        encoded: EncodedT,
        starts: Prompts,
        texts: Sequence[Sequence[int]],
        n_frames: Sequence[int],
    ) -> list[Any]:
        """Have the decoder read each item's text; return what ``_place`` takes.

        Args:
            encoded: the items.
            starts: the tokens before each item's text, without a prompt.
            texts: each item's text tokens, at least one.
            n_frames: each item's frames of the encoder's output that hold audio, at least one.
        """

    @abstractmethod
    def _place(self, attention: Any) -> Alignment:
        """Align one item's tokens, on any thread."""


def _prepared(window: Window) -> Prepared[Window]:
    group = (
        window.task == "detect",
        len(window.before),
        window.beam_size,
        len(window.attempts),
    )
    return Prepared(window, WINDOW_SAMPLES, group)


def _decoding(attempt: Attempt, number: int) -> Decoding | None:
    """Return what is kept of an attempt; four digits, as more would be noise.

    None if it is no number: an answer without tokens has no mean, and JSON has no infinity.
    """
    measured = (
        attempt.avg_logprob,
        compression_ratio(attempt.text),
        attempt.no_speech_prob,
    )
    if not all(map(math.isfinite, measured)):
        return None
    return Decoding(TEMPERATURES[number], *(round(each, 4) for each in measured))
