"""JSON that other versions have stored: the oldest shape of each, and one from the future."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from shared.models.options import ResolvedOptions
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk, chunk_from_json, chunk_to_json
from shared.speech.chunks.hypothesis import (
    Decoding,
    Hypothesis,
    WordHypothesis,
    hypothesis_from_json,
    hypothesis_to_json,
)
from shared.speech.text.accuracy import Accuracy
from shared.speech.transcript.manifest import Manifest, ManifestChunk
from shared.speech.transcript.transcript import (
    Segment,
    SegmentDecoding,
    TranscriptHeader,
    Word,
    segment_document,
)

OLDEST_CHUNK = {"core_start": 16, "core_end": 160, "stride_left": 2, "stride_right": 3}
OLDEST_HYPOTHESIS: dict[str, Any] = {"language": "en", "words": [["hello", 0, 8, None]]}
OLDEST_ACCURACY = {
    "wer": 0.5,
    "cer": 0.25,
    "words": 2,
    "word_errors": 1,
    "characters": 8,
    "character_errors": 2,
}
OLDEST_MANIFEST = {
    "model": "oracle",
    "revision": "1",
    "weights": ["sha256:0"],
    "engines": ["oracle 1"],
    "devices": ["cpu float64"],
    "decode": {
        "beam_size": 1,
        "language": None,
        "task": "transcribe",
        "prompt": None,
        "hotwords": None,
    },
    "vad": "off",
    "window_s": 30.0,
    "sample_rate": 16_000,
    "chunks": [{"idx": 0, **OLDEST_CHUNK}],
}
OLDEST: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (ResolvedOptions, {"model": "oracle", "language": None, "vad": "silero"}),
    (TranscriptHeader, {"language": "en", "duration_s": 2.0, "speech_s": 1.0, "skipped_s": 1.0}),
    (Word, {"text": "a", "start": 0.0, "end": 1.0}),
    (
        Segment,
        {
            "id": 0,
            "start": 0.0,
            "end": 1.0,
            "text": "a",
            "words": [{"text": "a", "start": 0.0, "end": 1.0, "confidence": None}],
        },
    ),
    (Accuracy, OLDEST_ACCURACY),
    (ManifestChunk, {"idx": 0, **OLDEST_CHUNK}),
    (Manifest, OLDEST_MANIFEST),
]


@pytest.mark.parametrize(("kind", "stored"), OLDEST, ids=lambda each: getattr(each, "__name__", ""))
def test_documents_of_the_oldest_shape_are_read(
    kind: type[BaseModel], stored: dict[str, Any]
) -> None:
    found = kind.model_validate(stored).model_dump(mode="json", exclude_unset=True)
    assert found == stored


@pytest.mark.parametrize(("kind", "stored"), OLDEST, ids=lambda each: getattr(each, "__name__", ""))
def test_members_that_a_later_version_has_written_are_ignored(
    kind: type[BaseModel], stored: dict[str, Any]
) -> None:
    later = {**stored, "of_the_future": {"a": 1}}
    assert kind.model_validate(later) == kind.model_validate(stored)


def test_a_warning_that_this_version_does_not_know_is_read() -> None:
    stored = {"language": "en", "duration_s": 2.0, "speech_s": 1.0, "skipped_s": 1.0}
    warning = {"code": "of_the_future", "detail": "It is hot."}
    header = TranscriptHeader.model_validate({**stored, "warnings": [warning]})
    assert header.model_dump()["warnings"] == [warning]


def test_chunks_of_the_oldest_shape_and_of_a_later_one_are_read() -> None:
    chunk = Chunk(7, 16, 160, 2, 3)
    assert chunk_from_json(7, OLDEST_CHUNK) == chunk
    assert chunk_from_json(7, {**chunk_to_json(chunk), "of_the_future": 1}) == chunk


def test_hypotheses_of_the_oldest_shape_and_of_a_later_one_are_read() -> None:
    hypothesis = Hypothesis((WordHypothesis("hello", 0, 8),), "en")
    assert hypothesis_from_json(OLDEST_HYPOTHESIS) == hypothesis
    later = hypothesis_to_json(hypothesis) | {
        "of_the_future": 1,
        "words": [["hello", 0, 8, None, [], 1]],
    }
    assert hypothesis_from_json(later) == hypothesis
    assert hypothesis_from_json({}) == Hypothesis(())


def test_a_hypothesis_keeps_its_tokens_and_what_its_decoder_measured() -> None:
    hypothesis = Hypothesis(
        (WordHypothesis(" hello", 0, 8, 0.9, (7592, 11)), WordHypothesis("!", 8, 9)),
        "en",
        decoding=Decoding(0.2, -0.31, 1.4, 0.02),
    )
    assert (
        hypothesis_from_json(json.loads(json.dumps(hypothesis_to_json(hypothesis)))) == hypothesis
    )


def test_a_segment_is_kept_with_its_decoding_and_told_without() -> None:
    decoding = SegmentDecoding(
        window_start=1.0,
        temperature=0.0,
        avg_logprob=-0.2,
        compression_ratio=1.5,
        no_speech_prob=0.1,
        tokens=[1, 2],
    )
    segment = Segment(id=0, start=1, end=2, text="a", words=[], decoding=decoding)
    assert Segment.model_validate(segment_document(segment)) == segment
    assert "decoding" not in segment.model_dump_json()
    assert "decoding" not in Segment.model_json_schema(mode="serialization")["properties"]


def test_a_chunk_of_the_manifest_has_the_times_of_its_samples() -> None:
    chunk = Chunk(3, 16, 160, 2, 3, times=((0, 0), (100, 90)))

    kept = ManifestChunk(idx=3, **chunk_to_json(chunk))

    assert (kept.times, kept.parts) == ([(0, 0), (100, 90)], [])
    assert ManifestChunk.model_validate_json(kept.model_dump_json()) == kept


def test_a_chunk_of_the_manifest_has_the_parts_that_were_heard() -> None:
    chunk = Chunk(3, 16, 160, 2, 3, parts=(Span(0, 40), Span(90, 149)))

    kept = ManifestChunk(idx=3, **chunk_to_json(chunk))

    assert chunk_from_json(3, chunk_to_json(chunk)) == chunk
    assert kept.parts == [(0, 40), (90, 149)]
    assert ManifestChunk.model_validate_json(kept.model_dump_json()) == kept
