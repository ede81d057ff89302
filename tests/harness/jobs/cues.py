"""Cues of transcripts, and the text that they show."""

from shared.speech.files.cues import LINE_COLUMNS, Cue, make_cues
from shared.speech.transcript.transcript import Transcript, Word


def cues_of(transcript: Transcript) -> list[Cue]:
    return list(make_cues(transcript, transcript.segments))


def speak(
    text: str, *, start: float = 0.0, word_s: float = 0.3, pauses: dict[str, float] | None = None
) -> list[Word]:
    """Words of equal length, one after another; ``pauses`` come after the words that they name."""
    words = []
    for spoken in text.split():
        end = round(start + word_s, 3)
        words.append(Word(text=spoken, start=start, end=end))
        start = round(end + (pauses or {}).get(spoken, 0.0), 3)
    return words


def text_of(cue: Cue) -> str:
    return " ".join(cue.lines)


def fits(text: str) -> bool:
    """Say whether a text wraps into a cue in some way."""
    words = text.split()
    return len(text) <= LINE_COLUMNS or any(
        max(len(" ".join(words[:at])), len(" ".join(words[at:]))) <= LINE_COLUMNS
        for at in range(1, len(words))
    )
