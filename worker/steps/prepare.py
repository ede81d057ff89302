"""The ``prepare`` step: decode, find speech, plan chunks, store audio - all in one pass."""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from shared.speech.audio import Pcm
from shared.speech.chunks import SAMPLE_RATE, Chunk, chunk_to_json
from shared.speech.voice_activity import make_vad
from shared.store import steps
from worker.media.clipping import ClippingMeter
from worker.media.decode import decode, decode_channels
from worker.media.planner import ChunkPlanner
from worker.media.timeline import Channels, DecodeLimits
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.pcm import PieceWriter

DETECT_AFTER_SAMPLES = 600 * SAMPLE_RATE
"""Chunks of ten minutes are planned before some are chosen to detect the language from: a greeting
in another one does not decide it, and a long file need not be decoded first."""
DETECT_CHUNKS = 3
"""Heard to detect the language: one may be music, two may disagree."""


def prepare(runtime: Runtime, lease: Lease) -> None:
    """Turn the source object into stored PCM and ``transcribe`` steps.

    A chunk's step is inserted as soon as its audio can be read back, so that inference starts while
    the rest is still being decoded. Where the language is to be detected, chunks are held until it
    is known. A repeated ``prepare`` finds the same plan.

    Raises:
        MediaError: the source cannot be transcribed.
        StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: somebody else prepares this job now.
        WorkerStopping: the worker was told to stop.
    """
    claim, settings = lease.claim, runtime.settings
    begun = time.monotonic()
    plan = _Plan(runtime, lease)
    channels: list[_Channel] = []
    decode_s = 0.0
    limits = DecodeLimits(max_duration_s=settings.max_duration_s)
    with runtime.storage.open(claim.source_key) as source:
        source_bytes = source.seek(0, io.SEEK_END)
        blocks = _decode(source, limits, apart=claim.options.multichannel)
        while True:
            lease.check()
            asked = time.monotonic()
            block = next(blocks, None)
            decode_s += time.monotonic() - asked
            if block is None:
                break
            if not channels:
                numbers = range(len(block)) if claim.options.multichannel else [None]
                channels = [_Channel(runtime, lease, number, len(block)) for number in numbers]
            for channel, samples in zip(channels, block, strict=True):
                channel.push(samples)
            ready = [chunk for channel in channels for chunk in channel.take_ready()]
            plan.add(ready, source.tell() / source_bytes / channels[0].n_samples)
    for channel in channels:
        channel.finish()
    ready = [chunk for channel in channels for chunk in channel.take_ready()]
    plan.add(ready, 1 / channels[0].n_samples)
    plan.finish()
    metrics = {
        "prepare_s": round(time.monotonic() - begun, 3),
        "decode_s": round(decode_s, 3),
        "vad_s": round(sum(channel.vad_s for channel in channels), 3),
        "clipped_share": round(max(channel.clipping.share for channel in channels), 6),
    }
    if claim.options.multichannel:
        metrics["channels"] = len(channels)
    steps.complete_prepare(
        runtime.database,
        claim,
        duration_s=channels[0].n_samples / SAMPLE_RATE,
        metrics=metrics,
        max_attempts=settings.max_attempts,
    )


def _decode(source: BinaryIO, limits: DecodeLimits, *, apart: bool) -> Iterator[Channels]:
    """Yield blocks of shape (n_channels, n_samples): all channels, or one that mixes them."""
    if apart:
        return decode_channels(source, limits)
    return (block[np.newaxis] for block in decode(source, limits))


class _Channel:
    """One stream of audio on its way: its speech, its chunks, its stored pieces."""

    def __init__(self, runtime: Runtime, lease: Lease, number: int | None, n_channels: int) -> None:
        options = lease.claim.options
        self._number, self._n_channels = number, n_channels
        self._vad = make_vad(options.vad)
        self._planner = ChunkPlanner(runtime.catalogue.get(options.model).window_s)
        self._pieces = PieceWriter(runtime.storage, lease.claim.job_id, channel=number)
        self._planned: list[Chunk] = []
        self.clipping = ClippingMeter()
        self.n_samples = 0
        self.vad_s = 0.0

    def push(self, samples: Pcm) -> None:
        """Take the next samples, shape (n_samples,)."""
        self.n_samples += len(samples)
        self.clipping.push(samples)
        asked = time.monotonic()
        spans = self._vad.push(samples)
        self.vad_s += time.monotonic() - asked
        self._planned += self._planner.push(samples, spans)
        self._pieces.write(samples)

    def finish(self) -> None:
        """Plan and store what is left."""
        asked = time.monotonic()
        spans = self._vad.finish()
        self.vad_s += time.monotonic() - asked
        self._planned += self._planner.push(np.zeros(0, np.int16), spans)
        self._planned += self._planner.finish()
        self._pieces.finish()

    def take_ready(self) -> list[Chunk]:
        """Return the chunks whose audio can be read back, each once.

        They are numbered throughout the job: a channel's chunks by themselves, n_channels apart.
        """
        stored = self._pieces.stored_samples
        ready = [chunk for chunk in self._planned if chunk.end <= stored]
        del self._planned[: len(ready)]  # chunks are planned in the order of their ends
        return [
            replace(
                chunk,
                index=chunk.index * self._n_channels + (self._number or 0),
                channel=self._number,
            )
            for chunk in ready
        ]


class _Plan:
    """The steps of the job: chunks, and where its language is unknown, their hold and release."""

    def __init__(self, runtime: Runtime, lease: Lease) -> None:
        options = lease.claim.options
        self._runtime, self._claim = runtime, lease.claim
        self._detects = (
            runtime.catalogue.get(options.model).detects_language
            and options.language is None
            and not options.multilingual
        )
        """Whether a ``detect`` step is still to be added."""
        self._hold = self._detects
        self._candidates: list[Chunk] = []
        """What the language can be detected from; ten minutes at most."""

    def add(self, chunks: Sequence[Chunk], sample_share: float) -> None:
        """Add chunks whose audio can be read back.

        ``sample_share`` is one over the length of the whole: while that is not known, estimated
        from how many samples the part of the file has given that was read so far.
        """
        if not chunks:
            return
        new = [steps.NewChunk(chunk.index, chunk_to_json(chunk)) for chunk in chunks]
        steps.add_chunks(
            self._runtime.database,
            self._claim,
            new,
            max_attempts=self._runtime.settings.max_attempts,
            share=min(1.0, max(chunk.end for chunk in chunks) * sample_share),
            hold=self._hold,
        )
        if self._detects:
            self._candidates += chunks
            if sum(chunk.n_samples for chunk in self._candidates) >= DETECT_AFTER_SAMPLES:
                self._add_detect()
        self._runtime.doorbell.ring()

    def finish(self) -> None:
        """See to it that every held chunk will be released; the plan is complete."""
        if not self._detects or not self._candidates:
            return
        if len(self._candidates) == 1:
            # It detects the language itself, while it is transcribed.
            steps.release_chunks(self._runtime.database, self._claim)
        else:
            self._add_detect()
        self._runtime.doorbell.ring()

    def _add_detect(self) -> None:
        heard = choose_for_detection(self._candidates)
        steps.add_detect(
            self._runtime.database,
            self._claim,
            [chunk_to_json(chunk) for chunk in heard],
            max_attempts=self._runtime.settings.max_attempts,
        )
        self._detects, self._candidates = False, []


def choose_for_detection(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return the longest chunk of each third: spread over the audio, with the most to hear."""
    in_order = sorted(chunks, key=lambda chunk: chunk.start)
    bounds = [len(in_order) * third // DETECT_CHUNKS for third in range(DETECT_CHUNKS + 1)]
    thirds = [in_order[a:b] for a, b in pairwise(bounds)]
    return [max(third, key=lambda chunk: chunk.n_samples) for third in thirds if third]
