"""Jobs whose chunks are planned and transcribed by hand, with words at known times."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Engine

from harness.jobs.job_store import add_job, claim
from shared.infra.errors import ModelError
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk, chunk_to_json
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis, hypothesis_to_json
from shared.store import steps
from shared.store.steps import ChunkResult, Claim, NewStep

CHUNK_S = 10
STRIDE_S = 1


def chunk(idx: int, channel: int | None = None) -> Chunk:
    """The idx-th ten seconds, of which the neighbours hear one second each."""
    return Chunk(
        index=idx,
        core_start=idx * CHUNK_S * SAMPLE_RATE,
        core_end=(idx + 1) * CHUNK_S * SAMPLE_RATE,
        stride_left=STRIDE_S * SAMPLE_RATE if idx else 0,
        stride_right=STRIDE_S * SAMPLE_RATE,
        channel=channel,
    )


def plan(database: Engine, preparing: Claim, idxs: Sequence[int], *, share: float = 0.0) -> None:
    """Plan some chunks of a job that is being prepared: that share of the whole, if it is known."""
    new = [NewStep(idx, chunk_to_json(chunk(idx))) for idx in idxs]
    steps.add_chunks(database, preparing, new, max_attempts=3, share=share)


def planned(database: Engine, job_id: UUID, chunks: int) -> None:
    """Prepare a job of so many chunks."""
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, range(chunks))
    complete_plan(database, preparing, chunks)


def complete_plan(database: Engine, preparing: Claim, chunks: int) -> None:
    steps.complete_prepare(
        database,
        preparing,
        duration_s=float(chunks * CHUNK_S + STRIDE_S),
        metrics={"prepare_s": 0.1, "clipped_share": 0.0},
        max_attempts=3,
    )


def said_in(idx: int) -> list[str]:
    """The words of a chunk, at 0.2 s and at 9.2 s from its beginning."""
    return [f"word{idx}a", f"word{idx}b."]


def hear(database: Engine, job_id: UUID, idx: int, *, language: str | None = "en") -> None:
    """Transcribe a chunk; the model hears the neighbours' words in the strides, too."""
    transcribing = claim(database, job_id, "transcribe", idx)
    heard = chunk(idx)
    words = [
        word
        for neighbour in (idx - 1, idx, idx + 1)
        for text, at_s in zip(said_in(neighbour), (0.2, 9.2), strict=True)
        if (word := _heard(heard, text, neighbour * CHUNK_S + at_s)) is not None
    ]
    result = ChunkResult(
        transcribing,
        output=hypothesis_to_json(Hypothesis(words=tuple(words), language=language)),
        timings={"inference_s": 0.1, "batch_size": 1},
        audio_s=heard.n_core_samples / SAMPLE_RATE,
    )
    assert steps.complete_chunks(database, [result], max_attempts=3) == []


def ended_job(database: Engine, *, chunks: int = 3) -> UUID:
    """A job whose chunks ended in reverse, and which has failed then."""
    job_id = add_job(database)
    planned(database, job_id, chunks)
    for idx in reversed(range(chunks)):
        hear(database, job_id, idx)
    steps.fail(database, claim(database, job_id, "finish"), ModelError("no: it is broken"))
    return job_id


def _heard(chunk: Chunk, text: str, at_s: float) -> WordHypothesis | None:
    start = round(at_s * SAMPLE_RATE) - chunk.start
    end = start + SAMPLE_RATE // 2
    return WordHypothesis(text, start, end, 0.9) if start >= 0 and end <= chunk.n_samples else None
