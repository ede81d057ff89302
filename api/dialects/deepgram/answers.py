"""Transcripts in Deepgram's form, written piece by piece: they may be long."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID, uuid5

from fastapi import Response
from pydantic_core import to_json

from api.dialects.deepgram.query import Wish
from api.dialects.words import bare, mean_confidence
from api.native.answers import stream
from shared.speech.formats import in_blocks
from shared.speech.paragraphs import make_paragraphs
from shared.speech.transcript import Paragraph, Segment, Word
from shared.store.jobs.read import JobView
from shared.store.transcripts import StoredTranscript


@dataclass(frozen=True, slots=True)
class _Utterance:
    """Words of one speaker, without a long pause between them."""

    channel: int
    words: list[Word]


def answer(view: JobView, engine: str, transcript: StoredTranscript, wish: Wish) -> Response:
    """Return a transcript as it is wished for. ``engine`` is the one of the job's model."""
    return stream(in_blocks(_write(view, engine, transcript, wish)), "application/json")


def _write(view: JobView, engine: str, transcript: StoredTranscript, wish: Wish) -> Iterator[str]:
    n_channels = transcript.header.channels or 1
    metadata = {
        "transaction_key": "deprecated",
        "request_id": str(view.id),
        "sha256": view.sha256,
        "created": view.created_at,
        "duration": transcript.header.duration_s,
        "channels": n_channels,
        "models": [view.model],
        "model_info": {view.model: {"name": view.model, "version": "", "arch": engine}},
    } | ({"tags": wish.tags} if wish.tags else {})
    yield f'{{"metadata":{_dump(metadata)},"results":{{"channels":['
    for channel in range(n_channels):
        yield "," if channel else ""
        yield from _write_channel(transcript, channel, wish)
    yield "]"
    if wish.utt_split_s is not None:
        utterances = heapq.merge(
            *(_utterances(transcript, each, wish.utt_split_s) for each in range(n_channels)),
            key=lambda utterance: utterance.words[0].start,
        )
        yield ',"utterances":['
        for number, utterance in enumerate(utterances):
            yield ("," if number else "") + _dump(_utterance(view.id, number, utterance, wish))
        yield "]"
    yield "}}"


def _write_channel(transcript: StoredTranscript, channel: int, wish: Wish) -> Iterator[str]:
    yield '{"alternatives":[{"transcript":"'
    is_first = True
    for segment in _of_channel(transcript, channel):
        for word in segment.words:
            yield _dump(_text([word], wish, is_first=is_first))[1:-1]
            is_first = False
    yield '","words":['
    confidences: list[float | None] = []
    for segment in _of_channel(transcript, channel):
        for word in segment.words:
            yield ("," if confidences else "") + _dump(_word(word, wish))
            confidences.append(word.confidence)
    yield f'],"confidence":{_dump(mean_confidence(confidences))}'
    if wish.paragraphs:
        yield from _write_paragraphs(transcript, channel, wish)
    yield "}]"
    language = transcript.header.language
    if wish.detected and language is not None:
        yield f',"detected_language":{_dump(language)}'
    yield "}"


def _write_paragraphs(transcript: StoredTranscript, channel: int, wish: Wish) -> Iterator[str]:
    n_words: dict[int, int] = {}
    segments: dict[int, Segment] = {}
    for segment in _of_channel(transcript, channel):
        n_words[segment.id] = len(segment.words)
        segments[segment.id] = segment.model_copy(update={"words": []})
    paragraphs = list(make_paragraphs(segments.values()))
    whole = "\n\n".join(f"{_talker(each, wish)}{each.text}" for each in paragraphs)
    yield f',"paragraphs":{{"transcript":{_dump(whole)},"paragraphs":['
    for number, paragraph in enumerate(paragraphs):
        # Those of other channels may have numbers in between.
        numbers = range(paragraph.first_segment, paragraph.last_segment + 1)
        own = [segments[each] for each in numbers if each in segments]
        found = {
            "sentences": [
                {"text": each.text, "start": each.start, "end": each.end} for each in own
            ],
            "num_words": sum(n_words[each.id] for each in own),
            "start": paragraph.start,
            "end": paragraph.end,
        } | ({"speaker": paragraph.speaker} if wish.speakers else {})
        yield ("," if number else "") + _dump(found)
    yield "]}"


def _talker(paragraph: Paragraph, wish: Wish) -> str:
    """Return the number of a paragraph's speaker as Deepgram writes it before the text."""
    is_told = wish.speakers and paragraph.speaker is not None
    return f"Speaker {paragraph.speaker}: " if is_told else ""


def _of_channel(transcript: StoredTranscript, channel: int) -> Iterator[Segment]:
    return (each for each in transcript.segments if each.channel in (None, channel))


def _utterances(transcript: StoredTranscript, channel: int, split_s: float) -> Iterator[_Utterance]:
    words: list[Word] = []
    for segment in _of_channel(transcript, channel):
        for word in segment.words:
            is_other = bool(words) and word.speaker != words[-1].speaker
            if words and (is_other or word.start - words[-1].end > split_s):
                yield _Utterance(channel, words)
                words = []
            words.append(word)
    if words:
        yield _Utterance(channel, words)


def _utterance(job_id: UUID, number: int, utterance: _Utterance, wish: Wish) -> dict[str, object]:
    words = utterance.words
    found: dict[str, object] = {
        "start": words[0].start,
        "end": words[-1].end,
        "confidence": mean_confidence([word.confidence for word in words]),
        "channel": utterance.channel,
        "transcript": _text(words, wish),
        "words": [_word(word, wish) for word in words],
        "id": str(uuid5(job_id, str(number))),
    }
    return found | ({"speaker": words[0].speaker} if wish.speakers else {})


def _word(word: Word, wish: Wish) -> dict[str, object]:
    found: dict[str, object] = {
        "word": bare(word.text),
        "start": word.start,
        "end": word.end,
        "confidence": word.confidence,
    }
    if wish.speakers:
        found["speaker"] = word.speaker
    return found | ({"punctuated_word": word.text} if wish.formatted else {})


def _text(words: Iterable[Word], wish: Wish, *, is_first: bool = True) -> str:
    """Return words as one text; ``is_first``: nothing stands before them."""
    text = ""
    for word in words:
        shown = word.text if wish.formatted else bare(word.text)
        text += shown if is_first else word.separator + shown
        is_first = False
    return text


def _dump(value: object) -> str:
    return to_json(value).decode()
