"""Whisper, whichever library computes: from a batch of audio to words."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

from shared.models.catalogue import Model
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis, WordHypothesis
from worker.engines.protocol import DecodeOptions, is_silent
from worker.engines.whisper.fallback import Attempt, Outcome, decode_with_fallback
from worker.engines.whisper.vocabulary import Vocabulary
from worker.engines.whisper.word_times import Alignment, time_words

WINDOW_SAMPLES = 30 * SAMPLE_RATE
"""A Whisper takes exactly 30 s; shorter items are padded with silence."""
FRAME_SAMPLES = SAMPLE_RATE // 50
"""20 ms: one frame of the encoder's output."""
SAMPLED_ANSWERS = 5
"""Answers drawn at temperatures above 0, of which the likeliest is taken: OpenAI's ``best_of``."""
SEED = 0
"""Seeds, once, the random generators of fallback. Results of items without fallback are always the
same; those of others are if the same items come in the same order."""

EncodedT = TypeVar("EncodedT")
"""A library's own form of the encoder's output for a batch."""
Items = Sequence[int]
"""Indices in the batch; fallback and alignment take only some of its items."""
Prompts = Sequence[Sequence[int]]
"""Tokens for each item."""


class Answer(NamedTuple):
    """The decoder's output for one item."""

    tokens: Sequence[int]
    """Text and timestamps, without the prompt and the end of text."""
    avg_logprob: float
    """Mean natural logarithm of the tokens' probabilities, the end of text among them."""
    no_speech_prob: float


class Whisper(ABC, Generic[EncodedT]):
    """Detects languages, decodes with fallback, and times words; subclasses compute.

    A batch is encoded once.
    """

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        self._known = model.languages
        self._vocabulary = vocabulary

    def _hear(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return one hypothesis per item, each of at most 30 s."""
        audible = [i for i, samples in enumerate(batch) if not is_silent(samples)]
        hypotheses = [Hypothesis((), options.language)] * len(batch)
        if audible:
            heard = self._hear_audible([batch[i] for i in audible], options)
            for i, hypothesis in zip(audible, heard, strict=True):
                hypotheses[i] = hypothesis
        return hypotheses

    def _hear_audible(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        encoded = self._encode(batch)
        languages: list[tuple[str, float | None]]
        if options.language is not None:
            languages = [(options.language, None)] * len(batch)
        elif self._vocabulary.multilingual:
            languages = [self._likeliest(shares) for shares in self._detect(encoded)]
        else:
            languages = [("en", None)] * len(batch)
        if options.task == "detect":
            return [Hypothesis((), language, share) for language, share in languages]

        task: Literal["transcribe", "translate"] = options.task
        starts = [self._vocabulary.start_sequence(language, task) for language, _ in languages]
        before = self._vocabulary.previous_text(options.prompt, options.hotwords)

        def decode(items: Items, temperature: float) -> list[Attempt]:
            prompts = [before + starts[item] for item in items]
            answers = self._answer(encoded, items, prompts, temperature, options.beam_size)
            return [self._attempt(answer) for answer in answers]

        outcomes = decode_with_fallback(len(batch), decode)
        timed = self._time_words(batch, encoded, starts, outcomes)
        return [
            Hypothesis(words, language, share, outcome.loop_suspected)
            for words, (language, share), outcome in zip(timed, languages, outcomes, strict=True)
        ]

    def _time_words(
        self,
        batch: Sequence[Samples],
        encoded: EncodedT,
        starts: Prompts,
        outcomes: Sequence[Outcome],
    ) -> list[tuple[WordHypothesis, ...]]:
        """Return each item's words; only items with text are aligned."""
        words: list[tuple[WordHypothesis, ...]] = [()] * len(batch)
        spoken = [i for i, outcome in enumerate(outcomes) if outcome.segments]
        if not spoken:
            return words
        texts = [
            [token for segment in outcomes[i].segments for token in segment.tokens] for i in spoken
        ]
        n_frames = [-(-len(batch[i]) // FRAME_SAMPLES) for i in spoken]
        aligned = self._align(encoded, spoken, [starts[i] for i in spoken], texts, n_frames)
        for i, alignment in zip(spoken, aligned, strict=True):
            segments, n_samples = outcomes[i].segments, len(batch[i])
            words[i] = time_words(segments, alignment, self._vocabulary, n_samples)
        return words

    def _likeliest(self, shares: dict[str, float]) -> tuple[str, float]:
        """Return the likeliest of the catalogue's languages of the model, and its probability.

        The probability is among all languages of the vocabulary, so it is low for speech in a
        language that the catalogue does not list.
        """
        known = [code for code in shares if self._known is None or code in self._known]
        best = max(known or shares, key=lambda code: shares[code])
        return best, min(1.0, shares[best])

    def _attempt(self, answer: Answer) -> Attempt:
        segments = self._vocabulary.split_segments(answer.tokens)
        text = "".join(self._vocabulary.decode(segment.tokens) for segment in segments)
        return Attempt(segments, text.strip(), answer.avg_logprob, answer.no_speech_prob)

    @abstractmethod
    def _encode(self, batch: Sequence[Samples]) -> EncodedT:
        """Run the encoder on items of at most 30 s."""

    @abstractmethod
    def _detect(self, encoded: EncodedT) -> list[dict[str, float]]:
        """Return each item's probabilities of all languages, by ISO 639 code."""

    @abstractmethod
    def _answer(
        self, encoded: EncodedT, items: Items, prompts: Prompts, temperature: float, beam_size: int
    ) -> list[Answer]:
        """Decode some items, each after its prompt; all prompts have the same length.

        At temperature 0 the decoder searches with a beam; above 0 it draws ``SAMPLED_ANSWERS``.
        """

    @abstractmethod
    def _align(
        self,
        encoded: EncodedT,
        items: Items,
        starts: Prompts,
        texts: Sequence[Sequence[int]],
        n_frames: Sequence[int],
    ) -> list[Alignment]:
        """Align some items.

        Args:
            encoded: the whole batch.
            items: those to align.
            starts: the tokens before each item's text, without a prompt.
            texts: each item's text tokens, at least one.
            n_frames: each item's frames of the encoder's output that hold audio, at least one.
        """
