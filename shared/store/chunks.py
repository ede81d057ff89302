"""The job store's reading side of finished chunks: what ``transcribe`` steps have left behind."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from shared.infra.database import begin
from shared.speech.chunks import Heard, chunk_from_json, hypothesis_from_json

_CHUNKS_PER_PAGE = 50
"""Rows read at once: some hundred kilobytes of words."""

ALL = "{(,)}"
"""The idxs of all chunks, as a multirange."""


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """A finished ``transcribe`` step: its chunk, and what the model made of it."""

    idx: int
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    timings: Mapping[str, Any]


def finished_chunks(
    engine: Engine, job_id: UUID, *, channel: int | None = None, among: str = ALL
) -> Iterator[ChunkOutput]:
    """Yield the finished chunks of one channel in order, read page by page.

    Args:
        engine: the database.
        job_id: whose chunks.
        channel: None for those of all channels mixed down.
        among: int4multirange of the idxs to look at.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return _read_chunks(
        engine,
        """
        SELECT idx, input, output, timings FROM steps
        WHERE job_id = :id AND kind = 'transcribe' AND state = 'done' AND idx > :after
          AND idx <@ CAST(:among AS int4multirange)
          AND (input ->> 'channel')::int IS NOT DISTINCT FROM CAST(:channel AS int)
        ORDER BY idx LIMIT :limit
        """,
        {"id": job_id, "channel": channel, "among": among},
    )


def finished_chunks_without_words(
    engine: Engine, job_id: UUID, *, among: str = ALL
) -> Iterator[ChunkOutput]:
    """Yield what there is to know of a job's finished chunks but their words, in order of idx.

    ``among`` is as in ``finished_chunks``.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    return _read_chunks(
        engine,
        """
        SELECT idx, input, output - 'words' AS output, timings FROM steps
        WHERE job_id = :id AND kind = 'transcribe' AND state = 'done' AND idx > :after
          AND idx <@ CAST(:among AS int4multirange)
        ORDER BY idx LIMIT :limit
        """,
        {"id": job_id, "among": among},
    )


def as_heard(rows: Iterable[ChunkOutput]) -> Iterator[Heard]:
    """Yield the chunks with their hypotheses, for the stitcher."""
    return ((chunk_from_json(row.idx, row.input), hypothesis_from_json(row.output)) for row in rows)


def _read_chunks(
    engine: Engine, query: str, parameters: Mapping[str, Any]
) -> Iterator[ChunkOutput]:
    after = -1
    while True:
        with begin(engine) as connection:
            rows = connection.execute(
                text(query), {**parameters, "after": after, "limit": _CHUNKS_PER_PAGE}
            ).mappings()
            page = [ChunkOutput(**row) for row in rows]
        yield from page
        if len(page) < _CHUNKS_PER_PAGE:
            return
        after = page[-1].idx
