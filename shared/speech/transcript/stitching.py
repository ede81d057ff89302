"""From chunks' hypotheses to one transcript, in memory that does not grow with the audio.

There are two passes. ``survey`` reads all chunks without their words. ``Stitcher`` reads the words
and yields segments (``segments`` cuts them).
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from shared.speech.audio.rate import SAMPLE_RATE, clock
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Heard, Hypothesis, WordHypothesis
from shared.speech.chunks.seams import keep_once
from shared.speech.text.scripts import space_between
from shared.speech.transcript.segments import Label, PlacedWord, make_segments
from shared.speech.transcript.transcript import (
    Segment,
    SegmentDecoding,
    TranscriptHeader,
    TranscriptWarning,
    Word,
)

LOW_CONFIDENCE = 0.5
"""A lower mean word confidence causes a warning: the words are more likely wrong than right."""
CLIPPED_SHARE = 0.005
"""This share of clipped audio causes a warning. In samples of speech it is below 0.01 % when they
are overdriven by 0 dB, 0.02 to 1.2 % by 3 dB, 0.7 to 6.5 % by 6 dB, and 8 to 25 % by 12 dB."""
UNHEARD_S = 3.0
"""A stretch of speech without words that is as long as this causes a warning: a short sentence.
Drawn-out fillers and audible breath last up to 2.5 s; ``unheard_s`` counts them too."""
_PLACES_NAMED = 3
"""A warning names so many places and counts the others."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What all chunks together tell without their words."""

    language: str | None
    """The language in which most of the audio was heard."""
    language_probability: float | None
    """Mean over the audio heard in that language; None where a chunk's engine gave none."""
    speech_samples: int
    """Audio that a model has heard within some chunk's core, of any channel."""
    loops: tuple[int, ...]
    """Times of the chunks in which the engine repeated itself, at SAMPLE_RATE, sorted."""
    unheard: tuple[tuple[int, int], ...] = ()
    """Start and end of each stretch of speech without words, in any channel, likewise."""


def survey(chunks: Iterable[Heard]) -> Survey:
    """Survey all chunks of all channels, in any order; their words are not read."""
    cores: list[tuple[int, int]] = []
    loops: list[int] = []
    unheard: list[tuple[int, int]] = []
    heard_in: Counter[str] = Counter()
    believed: defaultdict[str, float] = defaultdict(float)
    without_probability: set[str] = set()
    for chunk, hypothesis in chunks:
        n_samples = chunk.n_core_samples
        cores += _heard_in_core(chunk)
        if hypothesis.loop_suspected:
            loops.append(chunk.time_of(chunk.core_start))
        unheard += (
            (chunk.time_of(chunk.start + span.start), chunk.time_of(chunk.start + span.end))
            for span in hypothesis.unheard
        )
        language, probability = hypothesis.language, hypothesis.language_probability
        if language is not None:
            heard_in[language] += n_samples
            if probability is None:
                without_probability.add(language)
            else:
                believed[language] += n_samples * probability
    most = heard_in.most_common(1)[0][0] if heard_in else None
    probability = None
    if most is not None and most not in without_probability:
        probability = believed[most] / heard_in[most]
    return Survey(
        most,
        probability,
        _length_of_union(sorted(cores)),
        tuple(sorted(loops)),
        tuple(sorted(unheard)),
    )


class Stitcher:
    """Joins the hypotheses of one job.

    A word that two neighbours heard is kept once (``seams``). Words get times on the original
    timeline, none before the end of the one before it.
    """

    def __init__(
        self, n_samples: int, *, language: str | None = None, label: Label | None = None
    ) -> None:
        """Begin a transcript of ``n_samples`` in one language, or in each chunk's own.

        ``label`` tells the speakers of a sentence's words.
        """
        self._n_samples = n_samples
        self._language = language
        self._label = label
        self._confidence_sum = 0.0
        self._n_confidences = 0

    @property
    def mean_confidence(self) -> float | None:
        """Mean over the words yielded so far that have a confidence; None where none has."""
        return self._confidence_sum / self._n_confidences if self._n_confidences else None

    def stitch(self, channels: Sequence[Iterable[Heard]]) -> Iterator[Segment]:
        """Yield the segments of all channels by start time; chunks come in the order of cores."""
        streams = (self._segments(chunks) for chunks in channels)
        for number, segment in enumerate(heapq.merge(*streams, key=lambda found: found.start)):
            yield segment.model_copy(update={"id": number})

    def _segments(self, chunks: Iterable[Heard]) -> Iterator[Segment]:
        """Yield the segments of one channel, without their numbers."""
        for segment in make_segments(self._words(chunks), self._label):
            for word in segment.words:
                if word.confidence is not None:
                    self._confidence_sum += word.confidence
                    self._n_confidences += 1
            yield segment

    def _words(self, chunks: Iterable[Heard]) -> Iterator[PlacedWord]:
        """Yield the words of one channel, with times on the original timeline."""
        previous_end = 0
        previous = ""
        for chunk, hypothesis, own in keep_once(chunks):
            language = self._language or hypothesis.language
            window = _window(chunk, hypothesis)
            for heard, separator in with_separators(previous, hypothesis, own):
                start = min(
                    max(chunk.time_of(chunk.start + heard.start), previous_end), self._n_samples
                )
                end = min(max(chunk.time_of(chunk.start + heard.end), start), self._n_samples)
                word = Word(
                    text=heard.text.strip(),
                    separator=separator,
                    start=to_seconds(start),
                    end=to_seconds(end),
                    confidence=heard.confidence,
                )
                yield PlacedWord(word, language, chunk.channel, heard.tokens, window)
                previous_end, previous = end, heard.text


class RunningText:
    """The words of one channel while its chunks come, in the order of their cores.

    Those of a chunk are given once the next one is there, as both have heard the words at their
    border. They are the words of the whole transcript, in which they stay.
    """

    def __init__(self) -> None:
        self._before: Heard | None = None
        self._last: Heard | None = None
        self._previous = ""

    def push(self, heard: Heard) -> list[tuple[WordHypothesis, str]]:
        """Take the next chunk; return the words of the one before, with their separators."""
        words = self._settle(heard)
        self._before, self._last = self._last, heard
        return words

    def end(self) -> list[tuple[WordHypothesis, str]]:
        """Return the words of the last chunk: no other follows."""
        return self._settle(None)

    def _settle(self, following: Heard | None) -> list[tuple[WordHypothesis, str]]:
        around = [each for each in (self._before, self._last, following) if each is not None]
        for chunk, hypothesis, own in keep_once(around):
            if self._last is not None and chunk is self._last[0]:
                words = list(with_separators(self._previous, hypothesis, own))
                self._previous = own[-1].text if own else self._previous
                return words
        return []


def with_separators(
    previous: str, hypothesis: Hypothesis, own: Iterable[WordHypothesis]
) -> Iterator[tuple[WordHypothesis, str]]:
    """Yield those words of a hypothesis that are kept, with what stands before each in the text.

    ``previous`` is the text of the word before them; empty: there is none.
    """
    first = next((word for word in hypothesis.words if word.text.strip()), None)
    for heard in own:
        separator = _white_space_between(previous, heard.text)
        expected = space_between(previous, heard.text)
        if heard is first and expected is False:
            separator = ""  # many tokenizers begin every text with a space
        elif not separator and expected:
            separator = " "
        yield heard, separator if previous else ""
        previous = heard.text


def _window(chunk: Chunk, hypothesis: Hypothesis) -> SegmentDecoding | None:
    """Return what was measured of a chunk; its tokens are those of words."""
    decoding = hypothesis.decoding
    if decoding is None:
        return None
    start = to_seconds(chunk.time_of(chunk.start))
    return SegmentDecoding(window_start=start, **asdict(decoding), tokens=[])


def make_header(
    found: Survey,
    *,
    n_samples: int,
    channels: int | None,
    language: str | None,
    language_probability: float | None,
    mean_confidence: float | None,
    clipped_share: float | None,
    of_the_file: Iterable[TranscriptWarning] = (),
) -> TranscriptHeader:
    """Return the header of a transcript.

    Args:
        found: of all its chunks.
        n_samples: length of the whole audio.
        channels: how many were transcribed apart; None where they were mixed down.
        language: asked for or detected for the whole job; None: neither.
        language_probability: of that language, where it was detected.
        mean_confidence: over all words that have one; None where none has.
        clipped_share: share of the audio that is clipped, in [0, 1]; None: not measured.
        of_the_file: warnings that were known before anything was transcribed.
    """
    if language is None:
        language, language_probability = found.language, found.language_probability
    return TranscriptHeader(
        language=language,
        language_probability=language_probability,
        channels=channels,
        duration_s=to_seconds(n_samples),
        speech_s=to_seconds(found.speech_samples),
        skipped_s=to_seconds(max(0, n_samples - found.speech_samples)),
        warnings=make_warnings(found, mean_confidence, clipped_share, of_the_file),
    )


def make_warnings(
    found: Survey,
    mean_confidence: float | None,
    clipped_share: float | None,
    of_the_file: Iterable[TranscriptWarning] = (),
) -> list[TranscriptWarning]:
    """Return the warnings of a transcript; the arguments are those of ``make_header``."""
    details: dict[str, str] = {}
    if mean_confidence is not None and mean_confidence < LOW_CONFIDENCE:
        details["low_confidence"] = f"The mean confidence of all words is {mean_confidence:.2f}."
    if found.loops:
        places = _name_places([clock(start) for start in found.loops])
        details["loop_suspected"] = (
            f"The model repeated itself in the text that begins at {places}; "
            "it may say there what nobody said."
        )
    if missed := [span for span in found.unheard if to_seconds(span[1] - span[0]) >= UNHEARD_S]:
        places = _name_places([f"{to_seconds(a):.1f} to {to_seconds(b):.1f} s" for a, b in missed])
        details["unheard"] = f"The model has no words for the speech from {places}."
    if clipped_share is not None and clipped_share >= CLIPPED_SHARE:
        share = f"{clipped_share:.1%}"
        details["clipped_audio"] = f"{share} of the audio is clipped: it was recorded too loud."
    of_the_text = [TranscriptWarning(code=code, detail=text) for code, text in details.items()]
    return [*of_the_file, *of_the_text]


def _name_places(places: Sequence[str]) -> str:
    if len(places) > _PLACES_NAMED:
        places = [*places[:_PLACES_NAMED], f"{len(places) - _PLACES_NAMED} more"]
    return ", ".join(places)


def _white_space_between(left: str, right: str) -> str:
    return left[len(left.rstrip()) :] + right[: len(right) - len(right.lstrip())]


def _heard_in_core(chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Yield the parts of a chunk's core that a model has heard, in samples of the recording."""
    for part in chunk.heard:
        start = max(chunk.core_start, chunk.start + part.start)
        end = min(chunk.core_end, chunk.start + part.end)
        if start < end:
            yield start, end


def _length_of_union(spans: Iterable[tuple[int, int]]) -> int:
    """Return how much spans cover together; they are sorted by start."""
    covered = covered_until = 0
    for start, end in spans:
        covered += max(0, end - max(start, covered_until))
        covered_until = max(covered_until, end)
    return covered


def to_seconds(samples: int) -> float:
    """Return samples as seconds, to the millisecond."""
    return round(samples / SAMPLE_RATE, 3)
