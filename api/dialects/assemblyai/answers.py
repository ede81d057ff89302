"""Transcripts in AssemblyAI's forms, written piece by piece: they may be long."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import Response
from pydantic_core import to_json

from api.dialects.assemblyai.body import UPLOADED
from api.native.answers import stream
from shared.speech.dialects.words import bare, mean_confidence, speaker_letter
from shared.speech.files.cues import milliseconds
from shared.speech.files.formats import in_blocks, write_text
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Segment, Word
from shared.store.jobs.read import JobView
from shared.store.states import JobState
from shared.store.transcripts import StoredTranscript
from shared.store.webhooks.deliveries import OwnWebhook
from shared.store.webhooks.faces import AssemblyAIFace

STATUSES: Mapping[str, tuple[JobState, ...]] = {
    "queued": (JobState.QUEUED,),
    "processing": (JobState.RUNNING,),
    "completed": (JobState.SUCCEEDED,),
    "error": (JobState.FAILED, JobState.CANCELED),
}
"""AssemblyAI's words for the states of jobs."""


def status_of(view: JobView) -> str:
    """Return AssemblyAI's word for a job's state."""
    return next(status for status, states in STATUSES.items() if view.state in states)


def error_of(view: JobView) -> str | None:
    """Return why a job has no transcript; None: it has one, or may get one."""
    if view.state == JobState.CANCELED:
        return "the job was canceled"
    return (view.error_detail or "the job has failed") if view.state == JobState.FAILED else None


def audio_url_of(view: JobView) -> str:
    """Return where a job's file is, as its client has said; empty if it was sent with the job."""
    if view.upload_id is not None:
        return f"{UPLOADED}{view.upload_id}"
    return view.audio_url or ""


def answer(
    view: JobView, transcript: StoredTranscript | None, webhook: OwnWebhook | None
) -> Response:
    """Return a job as AssemblyAI's transcript.

    Args:
        view: the job.
        transcript: None: it has none (any more).
        webhook: the job's own; None: it has none.
    """
    return _json(_write(view, transcript, webhook))


def answer_sentences(view: JobView, transcript: StoredTranscript) -> Response:
    """Return the segments of a transcript as sentences."""
    apart = transcript.header.channels is not None
    sentences = (_part([segment], segment.text, apart=apart) for segment in transcript.segments)
    return _json(_write_parts("sentences", sentences, view, transcript))


def answer_paragraphs(view: JobView, transcript: StoredTranscript) -> Response:
    """Return the paragraphs of a transcript."""
    return _json(_write_parts("paragraphs", _paragraphs(transcript), view, transcript))


def answer_word_search(
    view: JobView, transcript: StoredTranscript, phrases: Sequence[str]
) -> dict[str, Any]:
    """Return where words, or phrases of several, are said."""
    wanted = {phrase: tuple(map(bare, phrase.split())) for phrase in phrases}
    longest = max(map(len, wanted.values()))
    found: dict[str, list[tuple[int, int, int]]] = {phrase: [] for phrase in wanted}
    last: deque[tuple[str, Word]] = deque(maxlen=longest)
    words = (word for segment in transcript.segments for word in segment.words)
    for index, word in enumerate(words):
        last.append((bare(word.text), word))
        said = tuple(text for text, _ in last)
        for phrase, texts in wanted.items():
            if said[-len(texts) :] == texts:
                first = last[-len(texts)][1]
                start, end = milliseconds(first.start), milliseconds(word.end)
                found[phrase].append((start, end, index - len(texts) + 1))
    matches = [
        {
            "text": phrase,
            "count": len(places),
            "timestamps": [place[:2] for place in places],
            "indexes": [place[2] for place in places],
        }
        for phrase, places in found.items()
        if places
    ]
    total = sum(map(len, found.values()))
    return {"id": str(view.id), "total_count": total, "matches": matches}


def _write(
    view: JobView, transcript: StoredTranscript | None, webhook: OwnWebhook | None
) -> Iterator[str]:
    header = None if transcript is None else transcript.header
    duration_s = view.duration_s if header is None else header.duration_s
    speakers = view.options.speakers
    head = {
        "id": str(view.id),
        "status": status_of(view),
        "audio_url": audio_url_of(view),
        "error": error_of(view),
        "speech_model_used": view.model,
        "language_code": view.options.language if header is None else header.language,
        "language_confidence": None if header is None else header.language_probability,
        "multichannel": view.options.multichannel,
        "speaker_labels": speakers is not None,
        "speakers_expected": None if speakers is None else speakers.count,
        "audio_channels": None if header is None else header.channels,
        "audio_duration": None if duration_s is None else round(duration_s),
        **_webhook(webhook),
    }
    yield _dump(head).removesuffix("}")
    if transcript is None:
        yield ',"text":null,"words":null,"utterances":null,"confidence":null}'
        return
    yield ',"text":"'
    yield from write_text(transcript.segments_without_words)
    yield '","words":['
    apart = transcript.header.channels is not None
    confidences: list[float | None] = []
    for segment in transcript.segments:
        for word in segment.words:
            yield ("," if confidences else "") + _dump(_word(word, segment, apart=apart))
            confidences.append(word.confidence)
    yield "]"
    if apart or transcript.header.speakers is not None:
        yield from _write_list("utterances", _paragraphs(transcript))
    else:
        yield ',"utterances":null'
    yield f',"confidence":{_dump(mean_confidence(confidences))}}}'


def _webhook(webhook: OwnWebhook | None) -> dict[str, Any]:
    face = None if webhook is None else webhook.face
    header = face.secret_header if isinstance(face, AssemblyAIFace) else None
    return {
        "webhook_url": None if webhook is None else webhook.url,
        "webhook_status_code": None if webhook is None else webhook.status_code,
        "webhook_auth": header is not None,
        "webhook_auth_header_name": header,
    }


def _write_parts(
    name: str, parts: Iterable[dict[str, Any]], view: JobView, transcript: StoredTranscript
) -> Iterator[str]:
    yield f'{{"id":"{view.id}"'
    confidences: list[float | None] = []

    def heard() -> Iterator[dict[str, Any]]:
        for part in parts:
            confidences.extend(word["confidence"] for word in part["words"])
            yield part

    yield from _write_list(name, heard())
    tail = {
        "confidence": mean_confidence(confidences) or 0.0,
        "audio_duration": round(transcript.header.duration_s),
        "speech_model_used": view.model,
    }
    yield "," + _dump(tail).removeprefix("{")


def _paragraphs(transcript: StoredTranscript) -> Iterator[dict[str, Any]]:
    """Yield paragraphs with their words; the segments are read once more for these."""
    apart = transcript.header.channels is not None
    segments = iter(transcript.segments)
    for paragraph in make_paragraphs(transcript.segments_without_words):
        own: list[Segment] = []
        while not own or own[-1].id != paragraph.last_segment:
            own.append(next(segments))
        yield _part(own, paragraph.text, apart=apart)


def _part(segments: Sequence[Segment], text: str, *, apart: bool) -> dict[str, Any]:
    words = [_word(word, each, apart=apart) for each in segments for word in each.words]
    return {
        "text": text,
        "start": milliseconds(segments[0].start),
        "end": milliseconds(max(each.end for each in segments)),
        "confidence": mean_confidence(word["confidence"] for word in words) or 0.0,
        "words": words,
        **_channel(segments[0], apart=apart),
    }


def _word(word: Word, segment: Segment, *, apart: bool) -> dict[str, Any]:
    return {
        "text": word.text,
        "start": milliseconds(word.start),
        "end": milliseconds(word.end),
        "confidence": word.confidence or 0.0,
        **_channel(segment, apart=apart),
    }


def _channel(segment: Segment, *, apart: bool) -> dict[str, str | None]:
    """Return AssemblyAI's number of a segment's channel, from 1, which is its speaker's, too.

    Speakers of one channel are letters.
    """
    number = str((segment.channel or 0) + 1) if apart else None
    return {"speaker": number or speaker_letter(segment.speaker), "channel": number}


def _write_list(name: str, items: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield f',"{name}":['
    for number, item in enumerate(items):
        yield ("," if number else "") + _dump(item)
    yield "]"


def _json(parts: Iterator[str]) -> Response:
    return stream(in_blocks(parts), "application/json")


def _dump(value: object) -> str:
    return to_json(value).decode()
