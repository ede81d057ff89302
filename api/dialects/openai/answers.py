"""Transcripts in OpenAI's forms, written piece by piece: they may be long."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import Response
from pydantic_core import to_json

from api.dialects.openai.form import Wish
from api.native.answers import stream
from shared.speech.dialects.words import speaker_letter
from shared.speech.files.formats import in_blocks, render, write_text
from shared.speech.text.languages import NAMES
from shared.speech.text.repetition import compression_ratio
from shared.speech.transcript.transcript import (
    Segment,
    SegmentDecoding,
    TranscriptHeader,
    Word,
    join_segments,
)
from shared.store.transcripts import StoredTranscript

_SEEKS_PER_S = 100
"""OpenAI counts audio in frames of 10 ms."""
_LEAST_PROBABILITY = 1e-4
"""Of a confidence that was rounded to nothing."""
_NOBODY = "unknown"
"""Whoever said what no speaker is known of."""
_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"


def answer(transcript: StoredTranscript, wish: Wish, task: str) -> Response:
    """Return a transcript as it is wished for. ``task`` is ``transcribe`` or ``translate``."""
    match wish.format:
        case "text":
            parts = _write_plain(transcript)
        case "srt" | "vtt":
            cues = render(transcript.header, transcript.segments, wish.format)
            return stream(cues.blocks, _TEXT)
        case "verbose_json":
            parts = _write_verbose(transcript, wish, task)
        case "diarized_json":
            parts = _write_diarized(transcript)
        case "json":
            parts = _write_json(transcript, wish, task)
    media_type = _JSON if wish.format.endswith("json") else _TEXT
    return stream(in_blocks(parts), media_type)


def needs_words(wish: Wish) -> bool:
    """Whether the answer is made of words, not of text alone."""
    return wish.logprobs or wish.format not in ("json", "text")


def languages_of(header: TranscriptHeader) -> list[dict[str, str]]:
    """Return the languages of a transcript."""
    return [] if header.language is None else [{"code": header.language}]


def logprob_of(token: str, confidence: float | None) -> dict[str, Any]:
    """Return a word, with the separator before it, as if it were a token."""
    return {
        "token": token,
        "bytes": list(token.encode()),
        "logprob": None if confidence is None else _logarithm(confidence),
    }


def logprobs_of(transcript: StoredTranscript) -> Iterator[dict[str, Any]]:
    """Yield the words of a transcript as if they were tokens."""
    for segment in transcript.segments:
        for word in segment.words:
            yield logprob_of(word.separator + word.text, word.confidence)


def _write_plain(transcript: StoredTranscript) -> Iterator[str]:
    yield from join_segments(transcript.segments_without_words)
    yield "\n"


def _write_json(transcript: StoredTranscript, wish: Wish, task: str) -> Iterator[str]:
    yield '{"text":"'
    yield from write_text(transcript.segments_without_words)
    yield '"'
    if task == "transcribe":
        yield f',"languages":{_dump(languages_of(transcript.header))}'
        if wish.logprobs:
            yield from _write_list("logprobs", logprobs_of(transcript))
        yield f',"usage":{_dump(_usage(transcript.header))}'
    yield "}"


def _write_verbose(transcript: StoredTranscript, wish: Wish, task: str) -> Iterator[str]:
    header = transcript.header
    language = "en" if task == "translate" else header.language
    head = {
        "task": task,
        "language": "unknown" if language is None else NAMES.get(language, language),
        "duration": header.duration_s,
    }
    yield _dump(head).removesuffix("}")
    yield ',"text":"'
    yield from write_text(transcript.segments_without_words)
    yield '"'
    if wish.words:
        words = (word for segment in transcript.segments for word in segment.words)
        yield from _write_list(
            "words", ({"word": each.text, "start": each.start, "end": each.end} for each in words)
        )
    if wish.segments:
        yield from _write_list("segments", map(_segment, transcript.segments))
    if task == "transcribe":
        yield f',"usage":{_dump(_usage(header))}'
    yield "}"


def _write_diarized(transcript: StoredTranscript) -> Iterator[str]:
    header = transcript.header
    yield _dump({"task": "transcribe", "duration": header.duration_s}).removesuffix("}")
    yield ',"text":"'
    yield from write_text(transcript.segments_without_words)
    yield '"'
    segments = (
        {
            "type": "transcript.text.segment",
            "id": f"seg_{each.id}",
            "start": each.start,
            "end": each.end,
            "text": each.separator + each.text,
            "speaker": speaker_letter(each.speaker) or _NOBODY,
        }
        for each in transcript.segments_without_words
    )
    yield from _write_list("segments", segments)
    yield f',"usage":{_dump(_usage(header))}}}'


def _segment(segment: Segment) -> dict[str, Any]:
    """Return a segment with what its decoder measured, or what stands for that."""
    decoding = segment.decoding or SegmentDecoding(
        window_start=segment.start,
        temperature=0.0,
        avg_logprob=_mean_logprob(segment.words),
        compression_ratio=round(compression_ratio(segment.text), 4),
        no_speech_prob=0.0,
        tokens=[],
    )
    return {
        "id": segment.id,
        "seek": round(decoding.window_start * _SEEKS_PER_S),
        "start": segment.start,
        "end": segment.end,
        "text": segment.separator + segment.text,
        **decoding.model_dump(exclude={"window_start"}),
    }


def _mean_logprob(words: Sequence[Word]) -> float:
    known = [word.confidence for word in words if word.confidence is not None]
    return round(sum(map(_logarithm, known)) / len(known), 4) if known else 0.0


def _usage(header: TranscriptHeader) -> dict[str, Any]:
    return {"type": "duration", "seconds": header.duration_s}


def _write_list(name: str, items: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield a member of a JSON object that is not its first."""
    yield f',"{name}":['
    for number, item in enumerate(items):
        yield ("," if number else "") + _dump(item)
    yield "]"


def _dump(value: object) -> str:
    return to_json(value).decode()


def _logarithm(probability: float) -> float:
    return round(math.log(max(probability, _LEAST_PROBABILITY)), 4)
