"""Finished chunks: the outputs of ``transcribe`` steps."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from shared.infra.database import read
from shared.speech.chunks.chunk import chunk_from_json
from shared.speech.chunks.hypothesis import Heard, hypothesis_from_json

_CHUNKS_PER_PAGE = 50
"""Rows per query: some hundred kilobytes of words."""

ALL = "{(,)}"
"""All idxs, as an int4multirange."""


@dataclass(frozen=True, slots=True)
class ChunkOutput:
    """A finished ``transcribe`` step: its chunk and the model's hypothesis, as JSON."""

    idx: int
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    timings: Mapping[str, Any]


def finished_chunks(
    engine: Engine,
    job_id: UUID,
    *,
    channel: int | None = None,
    among: str = ALL,
    tenant: str | None = None,
) -> Iterator[ChunkOutput]:
    """Yield the finished chunks of one channel in order, read page by page.

    ``channel`` is None for chunks of all channels mixed down, ``among`` an int4multirange of idxs.
    """
    of_channel = "(input ->> 'channel')::int IS NOT DISTINCT FROM CAST(:channel AS int)"
    parameters = {"id": job_id, "channel": channel, "among": among}
    return _read_chunks(engine, tenant, "output", of_channel, parameters)


def finished_chunks_without_words(
    engine: Engine, job_id: UUID, *, among: str = ALL, tenant: str | None = None
) -> Iterator[ChunkOutput]:
    """Yield a job's finished chunks of all channels in order, without their words."""
    parameters = {"id": job_id, "among": among}
    return _read_chunks(engine, tenant, "output - 'words'", "true", parameters)


def as_heard(rows: Iterable[ChunkOutput]) -> Iterator[Heard]:
    """Yield the chunks with their hypotheses, for the stitcher."""
    return ((chunk_from_json(row.idx, row.input), hypothesis_from_json(row.output)) for row in rows)


def _read_chunks(
    engine: Engine,
    tenant: str | None,
    output: str,
    condition: str,
    parameters: Mapping[str, Any],
) -> Iterator[ChunkOutput]:
    query = text(f"""
        SELECT idx, input, {output} AS output, timings FROM steps
        WHERE job_id = :id AND kind = 'transcribe' AND state = 'done' AND {condition}
          AND idx > :after AND idx <@ CAST(:among AS int4multirange)
        ORDER BY idx LIMIT :limit
    """)  # noqa: S608 - the variable parts are constants
    after = -1
    while True:
        with read(engine, tenant) as connection:
            rows = connection.execute(
                query, {**parameters, "after": after, "limit": _CHUNKS_PER_PAGE}
            ).mappings()
            page = [ChunkOutput(**row) for row in rows]
        yield from page
        if len(page) < _CHUNKS_PER_PAGE:
            return
        after = page[-1].idx
