"""Chunks and hypotheses as JSON, the form in which steps keep them."""

from collections.abc import Mapping
from typing import Any

from worker.audio import Chunk, Hypothesis, WordHypothesis


def chunk_to_json(chunk: Chunk) -> dict[str, int | None]:
    """Return a chunk as the input of its ``transcribe`` step; its index is the step's idx."""
    return {
        "core_start": chunk.core_start,
        "core_end": chunk.core_end,
        "stride_left": chunk.stride_left,
        "stride_right": chunk.stride_right,
        "channel": chunk.channel,
    }


def chunk_from_json(idx: int, data: Mapping[str, Any]) -> Chunk:
    """Return the chunk that a ``transcribe`` step's input describes."""
    return Chunk(index=idx, **data)


def hypothesis_to_json(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return a hypothesis as a step's output; a word is [text, start, end, confidence]."""
    return {
        "language": hypothesis.language,
        "language_probability": hypothesis.language_probability,
        "loop_suspected": hypothesis.loop_suspected,
        "words": [[word.text, word.start, word.end, word.confidence] for word in hypothesis.words],
    }


def hypothesis_from_json(data: Mapping[str, Any]) -> Hypothesis:
    """Return the hypothesis that a step's output holds; its words may have been left out."""
    return Hypothesis(
        words=tuple(WordHypothesis(*word) for word in data.get("words", ())),
        language=data["language"],
        language_probability=data["language_probability"],
        loop_suspected=data["loop_suspected"],
    )
