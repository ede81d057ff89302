"""From chunks' hypotheses to one transcript, in memory that does not grow with the audio.

Two passes: ``survey`` reads all chunks without their words, for what must be known beforehand. Then
``Stitcher`` reads the words and yields segments.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from shared.speech.chunks import SAMPLE_RATE, Heard
from shared.speech.seams import keep_once
from shared.speech.sentences import CLOSING_MARKS, SENTENCE_ENDS
from shared.speech.transcript import Segment, TranscriptHeader, TranscriptWarning, Word, join_words

PAUSE_S = 0.8
"""A silence between two words that ends a segment; pauses within a clause are shorter."""
MAX_SEGMENT_S = 7.0
"""Longest segment, unless one word is longer: no subtitle should stand longer."""
MAX_SEGMENT_CHARS = 84
"""Longest segment text, unless one word is longer: a subtitle's two lines of 42 characters."""

LOW_CONFIDENCE = 0.5
"""Mean word confidence below which a transcript has a warning: the model itself holds its words for
more likely wrong than right."""
CLIPPED_SHARE = 0.005
"""Share of clipped audio from which on a transcript has a warning. In speech samples that were
overdriven by 0 dB it is below 0.01 %; by 3 dB 0.02 to 1.2 %, by 6 dB 0.7 to 6.5 %, by 12 dB 8 to
25 %."""
_LOOPS_NAMED = 3
"""Places that a warning of loops names; it counts the others."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of all chunks together without their words."""

    language: str | None
    """The language in which most of the audio was heard."""
    language_probability: float | None
    """Mean over the audio heard in that language; None where a chunk's engine gave none."""
    speech_samples: int
    """Audio within some chunk's core, of any channel."""
    n_loops: int
    """Chunks in which the engine repeated itself."""
    first_loops: tuple[int, ...]
    """Where the first of them begin, in samples."""


def survey(chunks: Iterable[Heard]) -> Survey:
    """Survey all chunks of all channels, in any order; their words are not looked at."""
    cores: list[tuple[int, int]] = []
    loops: list[int] = []
    heard_in: Counter[str] = Counter()
    believed: defaultdict[str, float] = defaultdict(float)
    told: set[str] = set()
    for chunk, hypothesis in chunks:
        n_samples = chunk.n_core_samples
        cores.append((chunk.core_start, chunk.core_end))
        if hypothesis.loop_suspected:
            loops.append(chunk.core_start)
        language, probability = hypothesis.language, hypothesis.language_probability
        if language is not None:
            heard_in[language] += n_samples
            if probability is None:
                told.add(language)
            else:
                believed[language] += n_samples * probability
    most = heard_in.most_common(1)[0][0] if heard_in else None
    return Survey(
        most,
        believed[most] / heard_in[most] if most is not None and most not in told else None,
        _length_of_union(sorted(cores)),
        len(loops),
        tuple(sorted(loops)[:_LOOPS_NAMED]),
    )


class Stitcher:
    """Joins the hypotheses of one job.

    A word that two neighbours heard is kept once (``seams``). Word times are moved to the original
    timeline, where no word starts before the one before it has ended. Segments end at sentence
    ends, at pauses of ``PAUSE_S``, where the language changes, and before they outgrow a subtitle.
    """

    def __init__(self, n_samples: int, *, language: str | None = None) -> None:
        """Begin a transcript.

        Args:
            n_samples: length of the whole audio.
            language: ISO 639 code of the text; None: each chunk's own.
        """
        self._n_samples = n_samples
        self._language = language
        self._confidence_sum = 0.0
        self._n_confidences = 0

    @property
    def mean_confidence(self) -> float | None:
        """Over the words yielded so far that have a confidence; None where none has."""
        return self._confidence_sum / self._n_confidences if self._n_confidences else None

    def stitch(self, channels: Sequence[Iterable[Heard]]) -> Iterator[Segment]:
        """Yield the segments of all channels by start time.

        Args:
            channels: each channel's chunks and hypotheses, in the order of their cores; read as
                segments are asked for.
        """
        streams = (self._segments(chunks) for chunks in channels)
        for number, segment in enumerate(heapq.merge(*streams, key=lambda found: found.start)):
            yield segment.model_copy(update={"id": number})

    def _segments(self, chunks: Iterable[Heard]) -> Iterator[Segment]:
        """Yield the segments of one channel, without their numbers."""
        for run in _split(self._words(chunks)):
            words = [found.word for found in run]
            confidences = [word.confidence for word in words if word.confidence is not None]
            self._confidence_sum += sum(confidences)
            self._n_confidences += len(confidences)
            known = len(confidences) == len(words)
            yield Segment(
                id=0,
                start=words[0].start,
                end=words[-1].end,
                text=join_words((word.text for word in words), run[0].language),
                confidence=sum(confidences) / len(words) if known else None,
                language=run[0].language,
                channel=run[0].channel,
                words=words,
            )

    def _words(self, chunks: Iterable[Heard]) -> Iterator["_PlacedWord"]:
        """Yield the words of one channel, placed on the original timeline."""
        previous_end = 0
        for chunk, hypothesis, own in keep_once(chunks):
            language = self._language or hypothesis.language
            for heard in own:
                start = min(max(chunk.start + heard.start, previous_end), self._n_samples)
                end = min(max(chunk.start + heard.end, start), self._n_samples)
                word = Word(
                    text=heard.text.strip(),
                    start=to_seconds(start),
                    end=to_seconds(end),
                    confidence=heard.confidence,
                )
                yield _PlacedWord(word, language, chunk.channel)
                previous_end = end


@dataclass(frozen=True, slots=True)
class _PlacedWord:
    word: Word
    language: str | None
    channel: int | None


def make_header(
    found: Survey,
    *,
    n_samples: int,
    channels: int | None,
    language: str | None,
    language_probability: float | None,
    mean_confidence: float | None,
    clipped_share: float | None,
) -> TranscriptHeader:
    """Return the header of a transcript.

    Args:
        found: the survey of all its chunks.
        n_samples: length of the whole audio.
        channels: how many were transcribed apart; None where they were mixed down.
        language: the language asked for or detected for the whole job; None: neither.
        language_probability: of that language, where it was detected.
        mean_confidence: over all words that have one; None where none has.
        clipped_share: share of the audio that is clipped, in [0, 1]; None: not measured.
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
        warnings=make_warnings(found, mean_confidence, clipped_share),
    )


def make_warnings(
    found: Survey, mean_confidence: float | None, clipped_share: float | None
) -> list[TranscriptWarning]:
    """Return the warnings of a transcript; the arguments are those of ``make_header``."""
    return list(_warnings(found, mean_confidence, clipped_share))


def _warnings(
    found: Survey, mean_confidence: float | None, clipped_share: float | None
) -> Iterator[TranscriptWarning]:
    if mean_confidence is not None and mean_confidence < LOW_CONFIDENCE:
        yield TranscriptWarning(
            code="low_confidence",
            detail=f"The mean confidence of all words is {mean_confidence:.2f}.",
        )
    if found.n_loops:
        places = [_clock(start) for start in found.first_loops]
        if found.n_loops > len(places):
            places.append(f"{found.n_loops - len(places)} more")
        yield TranscriptWarning(
            code="loop_suspected",
            detail="The model repeated itself in the text that begins at "
            f"{', '.join(places)}; it may say there what nobody said.",
        )
    if clipped_share is not None and clipped_share >= CLIPPED_SHARE:
        yield TranscriptWarning(
            code="clipped_audio",
            detail=f"{clipped_share:.1%} of the audio is clipped: it was recorded too loud.",
        )


def _split(words: Iterable[_PlacedWord]) -> Iterator[list[_PlacedWord]]:
    """Yield the runs of words that become segments; none is empty."""
    run: list[_PlacedWord] = []
    n_chars = 0
    for found in words:
        word = found.word
        if run and (
            _ends_sentence(run[-1].word.text)
            or word.start - run[-1].word.end >= PAUSE_S
            or word.end - run[0].word.start > MAX_SEGMENT_S
            or n_chars + 1 + len(word.text) > MAX_SEGMENT_CHARS
            or found.language != run[-1].language
        ):
            yield run
            run, n_chars = [], 0
        n_chars += len(word.text) + (1 if run else 0)
        run.append(found)
    if run:
        yield run


def _ends_sentence(text: str) -> bool:
    return text.rstrip(CLOSING_MARKS)[-1:] in SENTENCE_ENDS


def _length_of_union(spans: Iterable[tuple[int, int]]) -> int:
    """Return how much spans cover together; they are in the order of their starts."""
    covered = covered_until = 0
    for start, end in spans:
        covered += max(0, end - max(start, covered_until))
        covered_until = max(covered_until, end)
    return covered


def to_seconds(samples: int) -> float:
    """Return samples as seconds, to the millisecond."""
    return round(samples / SAMPLE_RATE, 3)


def _clock(samples: int) -> str:
    """Return samples as H:MM:SS."""
    minutes, s = divmod(samples // SAMPLE_RATE, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"
