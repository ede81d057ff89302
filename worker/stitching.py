"""Hypotheses of chunks -> one transcript: a pure fold that keeps words only, never audio."""

from collections import Counter
from collections.abc import Iterable, Iterator

from shared.transcript import Segment, Transcript, Word, join_words
from worker.audio import SAMPLE_RATE, Chunk, Hypothesis

PAUSE_S = 0.8
"""A silence between two words that ends a segment: longer than the pauses within a clause."""
MAX_SEGMENT_S = 7.0
"""Longest segment, unless one word is longer: the longest time a subtitle should stand."""
MAX_SEGMENT_CHARS = 84
"""Longest segment text, unless one word is longer: a subtitle's two lines of 42 characters."""
SENTENCE_ENDS = frozenset(".?!…。！？｡؟।")  # noqa: RUF001 (other scripts are meant)
"""Characters that end a sentence at the end of a word, in the scripts of the languages we offer."""
CLOSING_MARKS = "\"'”’»)]」』）"  # noqa: RUF001
"""What may follow a sentence's end within the word."""


def stitch(
    pairs: Iterable[tuple[Chunk, Hypothesis]], *, n_samples: int, language: str | None
) -> Transcript:
    """Join the hypotheses of all chunks, given in the order of their cores.

    A word belongs to the chunk whose core holds its midpoint, so a word that two neighbours heard
    is kept once. Word times are moved to the original timeline, where none starts before the one
    before it has ended. Segments end at sentence ends, at pauses of ``PAUSE_S`` and before they
    outgrow a subtitle.

    Args:
        pairs: each chunk with its hypothesis.
        n_samples: length of the whole audio.
        language: ISO 639 code the client gave; None takes the one most of the audio was heard in.
    """
    words: list[Word] = []
    heard_in: Counter[str] = Counter()
    speech_samples = covered_until = previous_end = 0
    for chunk, hypothesis in pairs:
        speech_samples += max(0, chunk.core_end - max(chunk.core_start, covered_until))
        covered_until = max(covered_until, chunk.core_end)
        if hypothesis.language is not None:
            heard_in[hypothesis.language] += chunk.core_end - chunk.core_start
        for heard in hypothesis.words:
            text = heard.text.strip()
            # A word of no length at the chunk's very end still lies on its last sample.
            midpoint = chunk.start + min((heard.start + heard.end) // 2, chunk.n_samples - 1)
            if not text or not chunk.core_start <= midpoint < chunk.core_end:
                continue
            start = min(max(chunk.start + heard.start, previous_end), n_samples)
            end = min(max(chunk.start + heard.end, start), n_samples)
            words.append(Word(text=text, start=_s(start), end=_s(end), confidence=heard.confidence))
            previous_end = end
    if language is None and heard_in:
        language = heard_in.most_common(1)[0][0]
    return Transcript(
        text=join_words((word.text for word in words), language),
        language=language,
        duration_s=_s(n_samples),
        speech_s=_s(speech_samples),
        skipped_s=_s(max(0, n_samples - speech_samples)),
        segments=[
            Segment(
                id=index,
                start=run[0].start,
                end=run[-1].end,
                text=join_words((word.text for word in run), language),
                words=run,
            )
            for index, run in enumerate(_split(words))
        ],
    )


def _split(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Cut the words into the runs that become segments; none is empty."""
    run: list[Word] = []
    n_chars = 0
    for word in words:
        if run and (
            _ends_sentence(run[-1].text)
            or word.start - run[-1].end >= PAUSE_S
            or word.end - run[0].start > MAX_SEGMENT_S
            or n_chars + 1 + len(word.text) > MAX_SEGMENT_CHARS
        ):
            yield run
            run, n_chars = [], 0
        n_chars += len(word.text) + (1 if run else 0)
        run.append(word)
    if run:
        yield run


def _ends_sentence(text: str) -> bool:
    return text.rstrip(CLOSING_MARKS)[-1:] in SENTENCE_ENDS


def _s(samples: int) -> float:
    """Samples as seconds, to the millisecond."""
    return round(samples / SAMPLE_RATE, 3)
