"""Deepgram's answers and errors. Transcripts are written piece by piece: they may be long."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID, uuid5

from pydantic_core import to_json

from shared.infra.errors import AUDIO_CODES, FETCH_CODES, JobCanceled, JobFailed
from shared.speech.dialects.words import bare, mean_confidence
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Paragraph, Segment, TranscriptHeader, Word

TAGS = "tags"
"""The member of a job's metadata that has a request's tags."""

BAD_REQUEST = "Bad Request"
"""The ``err_code`` of a request, or a file, that is at fault."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How an answer is to look."""

    formatted: bool
    """With capitals and punctuation."""
    paragraphs: bool
    utt_split_s: float | None
    """None: no utterances."""
    detected: bool
    """Whether the detected language is told."""
    speakers: bool = False
    """Whether speakers are told."""


class Job(Protocol):
    """What an answer says of the job itself."""

    @property
    def id(self) -> UUID:
        """Its id, which is the request's."""

    @property
    def sha256(self) -> str | None:
        """The digest of its file."""

    @property
    def created_at(self) -> datetime:
        """When it was submitted."""

    @property
    def model(self) -> str:
        """The id of its model."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The client's own."""


class Heard(Protocol):
    """A transcript whose segments can be iterated over several times."""

    @property
    def header(self) -> TranscriptHeader:
        """What it says of itself as a whole."""

    @property
    def segments(self) -> Iterable[Segment]:
        """In order."""


@dataclass(frozen=True, slots=True)
class _Utterance:
    """Words of one speaker, without a long pause between them."""

    channel: int
    words: list[Word]


def error_body(code: str, message: str, request_id: str) -> dict[str, str]:
    """Return the body of an error."""
    return {"err_code": code, "err_msg": message, "request_id": request_id}


def job_error(job_id: str, error: Mapping[str, str] | None) -> dict[str, str]:
    """Return the body that tells why a job has no transcript.

    Args:
        job_id: its id.
        error: its ``code`` and ``detail``; None: it was canceled.
    """
    if error is None:
        return error_body(JobCanceled.code, "the job was canceled", job_id)
    is_at_fault = error["code"] in AUDIO_CODES | FETCH_CODES
    return error_body(BAD_REQUEST if is_at_fault else JobFailed.code, error["detail"], job_id)


def write_answer(job: Job, engine: str, transcript: Heard, wish: Wish) -> Iterator[str]:
    """Yield the parts of a transcript's JSON. ``engine`` is the one of the job's model."""
    n_channels = transcript.header.channels or 1
    tags = job.metadata.get(TAGS)
    metadata = {
        "transaction_key": "deprecated",
        "request_id": str(job.id),
        "sha256": job.sha256,
        "created": job.created_at,
        "duration": transcript.header.duration_s,
        "channels": n_channels,
        "models": [job.model],
        "model_info": {job.model: {"name": job.model, "version": "", "arch": engine}},
    } | ({"tags": tags} if tags else {})
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
            yield ("," if number else "") + _dump(_utterance(job.id, number, utterance, wish))
        yield "]"
    yield "}}"


def _write_channel(transcript: Heard, channel: int, wish: Wish) -> Iterator[str]:
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


def _write_paragraphs(transcript: Heard, channel: int, wish: Wish) -> Iterator[str]:
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


def _of_channel(transcript: Heard, channel: int) -> Iterator[Segment]:
    return (each for each in transcript.segments if each.channel in (None, channel))


def _utterances(transcript: Heard, channel: int, split_s: float) -> Iterator[_Utterance]:
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
