"""Subtitle cues of a text as if it were read aloud, and of transcripts: how well they read.

The reader is a model. A syllable takes 0.19 s and a word 0.04 s more, times a factor that varies
from word to word by a fifth: some five syllables a second, as of a practised reader. Pauses last
0.15 to 0.45 s after two of three commas and the like, 0.4 to 0.9 s after a sentence, and 0.9 to
1.8 s after a paragraph.
"""

import json
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.files.cues import Cue, make_cues
from shared.speech.text.sentences import ends_clause, ends_sentence
from shared.speech.transcript.stitching import Stitcher
from shared.speech.transcript.transcript import Header, Segment

SYLLABLE_S, WORD_S, VARIATION = 0.19, 0.04, 0.2
CLAUSE_PAUSE_S, CLAUSE_PAUSE_SHARE = (0.15, 0.45), 2 / 3
SENTENCE_PAUSE_S = (0.4, 0.9)
PARAGRAPH_PAUSE_S = (0.9, 1.8)
CHARS_PER_S = 20
"""Faster cues are counted as too fast to read. Netflix's limit for adults, in English."""

_SAMPLES = sorted((Path(__file__).resolve().parent.parent / "samples").glob("*.txt"))


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted of cues in a language that writes words apart."""

    n_cues: int
    n_one_word: int
    n_short: int
    """Below 5/6 of a second."""
    n_long: int
    """Above seven seconds."""
    n_fast: int
    """Above ``CHARS_PER_S``."""
    n_stubs: int
    """Two lines, one of them shorter than a third of the other."""
    n_mid_clause: int
    """Ends neither at a sentence's end nor at a clause's punctuation mark."""
    balance: float
    """Mean ratio of the shorter line's length to the longer one's, over cues with two lines."""


def run(texts: Sequence[Path], transcripts: Sequence[Path], language: str) -> None:
    """Print figures of the cues of each text read aloud, and of each transcript.

    Args:
        texts: plain text, paragraphs set apart by empty lines.
        transcripts: JSON documents as ``longhand transcribe --format json`` writes them.
        language: ISO 639 code of the texts.
    """
    print(
        f"{'% of the cues:':<24}{'cues':>7}{'one word':>10}{'< 5/6 s':>9}{'> 7 s':>7}"
        f"{f'> {CHARS_PER_S} cps':>10}{'stubs':>7}{'mid-clause':>12}{'balance':>9}{'words/s':>10}"
    )
    if not (texts or transcripts):
        texts = _SAMPLES
    for path in texts:
        header = Header(language=language)
        _print(path.name, header, list(read_aloud(path.read_text(encoding="utf-8"), language)))
    for path in transcripts:
        document = json.loads(path.read_text(encoding="utf-8"))
        segments = [Segment.model_validate(segment) for segment in document["segments"]]
        _print(path.name, Header.model_validate(document), segments)


def read_aloud(text: str, language: str) -> Iterator[Segment]:
    """Yield the transcript of a text that somebody reads, as the platform stitches it."""
    rng = random.Random(0)
    now_s, words = 0.5, []
    for paragraph in re.split(r"\n\s*\n", text):
        spoken = paragraph.split()
        for word, following in zip(spoken, [*spoken[1:], None], strict=True):
            duration_s = (WORD_S + SYLLABLE_S * _n_syllables(word)) * rng.gauss(1, VARIATION)
            end_s = now_s + max(0.06, duration_s)
            words.append(
                WordHypothesis(word, round(now_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE))
            )
            now_s = end_s
            if following is None:
                now_s += rng.uniform(*PARAGRAPH_PAUSE_S)
            elif ends_sentence(word, following, language):
                now_s += rng.uniform(*SENTENCE_PAUSE_S)
            elif ends_clause(word) and rng.random() < CLAUSE_PAUSE_SHARE:
                now_s += rng.uniform(*CLAUSE_PAUSE_S)
    n_samples = round((now_s + 1) * SAMPLE_RATE)
    chunk = Chunk(0, 0, n_samples, 0, 0)
    heard = (chunk, Hypothesis(tuple(words), language=language))
    return Stitcher(n_samples, language=language).stitch([[heard]])


def _n_syllables(word: str) -> int:
    """Runs of vowels, about; a number has two syllables a digit."""
    vowels = re.findall(r"[aeiouyáàâäãåæéèêëíìîïóòôöõøúùûü]+", word.lower())
    return max(1, len(vowels) + 2 * sum(map(str.isdigit, word)))


def count(cues: Iterable[Cue]) -> Figures:
    """Count what there is to say of cues."""
    found = list(cues)
    texts = [" ".join(cue.lines) for cue in found]
    shown_ms = [cue.end_ms - cue.start_ms for cue in found]
    lengths = [sorted(map(len, cue.lines)) for cue in found if len(cue.lines) > 1]
    balances = [shorter / longer for shorter, longer in lengths]
    return Figures(
        n_cues=len(found),
        n_one_word=sum(" " not in text for text in texts),
        n_short=sum(ms < 833 for ms in shown_ms),
        n_long=sum(ms > 7_000 for ms in shown_ms),
        n_fast=sum(
            sum(map(len, cue.lines)) * 1000 / ms > CHARS_PER_S
            for cue, ms in zip(found, shown_ms, strict=True)
        ),
        n_stubs=sum(balance < 1 / 3 for balance in balances),
        n_mid_clause=sum(not ends_clause(text) and not ends_sentence(text) for text in texts),
        balance=fmean(balances or [1]),
    )


def _print(name: str, header: Header, segments: Sequence[Segment]) -> None:
    started = time.perf_counter()
    cues = list(make_cues(header, segments))
    wall_s = time.perf_counter() - started
    found = count(cues)
    n_words = sum(len(segment.words) for segment in segments)
    percent = 100 / max(1, found.n_cues)
    print(
        f"{name:<24}{found.n_cues:>7}{found.n_one_word * percent:>10.2f}"
        f"{found.n_short * percent:>9.2f}{found.n_long * percent:>7.2f}"
        f"{found.n_fast * percent:>10.2f}{found.n_stubs * percent:>7.2f}"
        f"{found.n_mid_clause * percent:>12.1f}{found.balance:>9.2f}{n_words / wall_s:>10,.0f}"
    )
