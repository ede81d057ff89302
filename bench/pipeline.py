"""Everything between a file and its words in one process: the platform's stages, no platform."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import BinaryIO

import numpy as np

from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm, Samples
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import make_vad
from shared.speech.chunks.chunk import Chunk
from shared.speech.chunks.hypothesis import Hypothesis
from shared.speech.chunks.packing import Packed, pack
from shared.speech.chunks.unheard import Listening
from shared.speech.names import VadName
from shared.speech.transcript.segments import Label
from shared.speech.transcript.stitching import Stitcher, survey
from shared.speech.transcript.transcript import Word
from worker.engines.protocol import DecodeOptions, Engine
from worker.media.decode import decode
from worker.media.planner import ChunkPlanner


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a recording."""

    words: list[Word]
    chunks: list[Chunk]
    duration_s: float
    skipped_s: float

    @property
    def cuts_s(self) -> list[float]:
        """Where chunks meet, strides overlapping, because there was no silence to cut in."""
        return [
            left.core_end / SAMPLE_RATE
            for left, right in pairwise(self.chunks)
            if left.core_end == right.core_start
        ]


def read(source: BinaryIO) -> Iterator[Pcm]:
    """Decode a file of any length, block by block."""
    return (block for (block,) in decode(source, 24 * 3600))


def transcribe(
    blocks: Iterable[Pcm],
    engine: Engine,
    *,
    vad: VadName,
    window_s: float,
    packed: bool = False,
    options: DecodeOptions | None = None,
    label: Label | None = None,
) -> Outcome:
    """Find speech, plan chunks, infer in batches, hear again what was left out, and stitch.

    The whole audio is held in memory. ``packed`` shortens long pauses. ``label`` tells the speakers
    of words.
    """
    detector, planner = make_vad(vad), ChunkPlanner(window_s, packed=packed)
    read_so_far: list[Pcm] = []
    chunks: list[Chunk] = []
    for block in blocks:
        read_so_far.append(block)
        chunks += planner.push(block, detector.push(block))
    chunks += planner.push(np.zeros(0, np.int16), detector.finish())
    chunks += planner.finish()
    pcm = np.concatenate(read_so_far)
    heard = list(zip(chunks, listen(engine, pcm, chunks, options or DecodeOptions()), strict=True))
    segments = Stitcher(len(pcm), label=label).stitch([heard])
    return Outcome(
        words=[word for segment in segments for word in segment.words],
        chunks=chunks,
        duration_s=len(pcm) / SAMPLE_RATE,
        skipped_s=(len(pcm) - survey(heard).speech_samples) / SAMPLE_RATE,
    )


def listen(
    engine: Engine, pcm: Pcm, chunks: list[Chunk], options: DecodeOptions
) -> list[Hypothesis]:
    """Return each chunk's hypothesis, after what was left unheard has been heard again."""
    first = infer(engine, pcm, ((c, Span(0, c.n_samples)) for c in chunks), options)
    chunk_samples = [as_float(pcm[chunk.start : chunk.end]) for chunk in chunks]
    listenings = [*map(Listening, chunks, chunk_samples, first)]
    while True:
        asked = [listening.next_slices() for listening in listenings]
        if not any(asked):
            return [listening.hypothesis for listening in listenings]
        slices = ((c, heard) for c, each in zip(chunks, asked, strict=True) for heard in each)
        answers = infer(engine, pcm, slices, options)
        for listening, each in zip(listenings, asked, strict=True):
            listening.take([*islice(answers, len(each))])


def infer(
    engine: Engine, pcm: Pcm, slices: Iterable[tuple[Chunk, Span]], options: DecodeOptions
) -> Iterator[Hypothesis]:
    """Yield the hypothesis of each slice of a chunk, from batches as large as the engine takes."""
    waiting = iter(slices)
    while batch := [*islice(waiting, engine.max_batch)]:
        packed = [pack(c, as_float(pcm[c.start : c.end]), heard) for c, heard in batch]
        hypotheses = engine.transcribe([each.item for each in packed], options)
        yield from map(Packed.unpack, packed, hypotheses)


def as_float(pcm: Pcm) -> Samples:
    """Return stored audio in the form that engines take."""
    return pcm.astype(np.float32) / 32768
