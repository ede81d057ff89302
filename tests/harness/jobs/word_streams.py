"""Transcripts made of words with their times, given or drawn."""

from hypothesis import strategies as st

from shared.speech.text.scripts import space_between
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Segment, Transcript, Word, join_segments, join_words


def transcript_of(*segments: list[Word], language: str | None = "en") -> Transcript:
    """Return a transcript; words that name no separator get that of their script."""
    previous = ""
    for words in segments:
        for word in words:
            if "separator" not in word.model_fields_set:
                expected = space_between(previous, word.text)
                word.separator = " " * bool(previous and expected is not False)
            previous = word.text
    made = [
        Segment(
            id=i,
            start=words[0].start,
            end=words[-1].end,
            text=join_words(words),
            separator=words[0].separator,
            words=words,
        )
        for i, words in enumerate(segments)
    ]
    return Transcript(
        text="".join(join_segments(made)),
        language=language,
        duration_s=1e6,
        speech_s=1e6,
        skipped_s=0,
        paragraphs=list(make_paragraphs(made)),
        segments=made,
    )


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words of any length in time order, gaps and lengths from nothing to many seconds."""
    language = draw(st.sampled_from([None, "en", "ja"]))
    letters = st.characters(categories=["L", "N", "P"])
    now = 0.0
    segments = []
    for sizes in draw(st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=25), max_size=4)):
        words = []
        for size in sizes:
            start = round(now + draw(st.sampled_from([0, 0, 0.001, 0.2, 9.0])), 3)
            now = round(start + draw(st.sampled_from([0, 0.001, 0.3, 1.0, 12.0])), 3)
            text = draw(st.text(letters, min_size=size, max_size=size))
            words.append(Word(text=text, start=start, end=now))
        segments.append(words)
    return transcript_of(*segments, language=language)
