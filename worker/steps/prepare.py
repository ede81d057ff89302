"""The ``prepare`` step: decode, find speech, plan chunks, store audio - all in one pass."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np

from shared.infra.errors import AudioTooLong, LargeFile
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.audio.timemap import TimeMap
from shared.speech.audio.voice_activity import make_vad
from shared.speech.chunks.chunk import Chunk, chunk_to_json
from shared.speech.speakers.spans import SpanPlanner, SpeakerSpan
from shared.store import steps
from shared.store.queues import LARGE_QUEUE
from shared.store.steps import NewStep
from worker.media.clipping import ClippingMeter
from worker.media.findings import Findings
from worker.media.peaks import PeakMeter, merge
from worker.media.planner import ChunkPlanner
from worker.media.read import read_audio
from worker.media.sandbox.client import Limits
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.steps.pcm import BYTES_PER_SAMPLE, PieceWriter

LARGE_SAMPLES = 3_600 * SAMPLE_RATE
"""Least audio of a large file, all channels together: its speech takes the detector ten seconds.
The header does not decide, as it may say anything."""
DETECT_AFTER_SAMPLES = 600 * SAMPLE_RATE
"""The language is detected from chunks of the first ten minutes: a greeting in another language
does not decide, and a long file need not be decoded first."""
STORED_PER_SOURCE_BYTE = 512
"""Most bytes of audio that a job stores for each byte of its source. The least that a codec takes
for a second of speech, 32,000 bytes here, is some 90 bytes (Codec 2)."""
STORED_ANYWAY_BYTES = 8 << 20
"""Four minutes that any source may store: headers and short files have ratios of their own."""

DETECT_CHUNKS = 3
"""Chunks heard to detect the language: one may be music, two may disagree."""


def prepare(runtime: Runtime, lease: Lease) -> None:
    """Turn the source object into stored PCM and ``transcribe`` steps.

    A chunk's step is inserted as soon as its audio can be read back, so inference starts while the
    rest is being decoded. If the language is to be detected, chunks are on hold until it is known.
    Where speakers are to be told apart, a span's ``diarize`` step is inserted once its audio can be
    read back. A repeated ``prepare`` makes the same plan.

    Raises:
        MediaError, PoisonousInput: the source cannot be transcribed.
        LargeFile: it is to be prepared later, as the large file that it is.
        StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: another worker prepares this job now.
        WorkerStopping: the worker was told to stop.
    """
    claim, settings = lease.claim, runtime.settings
    begun = time.monotonic()
    plan, lane = _Plan(runtime, lease), _Lane(runtime, lease)
    channels: list[_Channel] = []
    findings = Findings()
    decode_s = 0.0
    limits = Limits(
        audio_s=settings.max_duration_s,
        wall_s=settings.prepare_limit_s,
        memory_bytes=settings.prepare_memory_bytes,
    )
    with runtime.storage.open(claim.source_key, claim.source_bytes) as source:
        blocks = read_audio(
            runtime.decoders,
            source,
            claim.source_bytes,
            limits,
            apart=claim.options.multichannel,
            track=claim.options.track,
            strict=claim.options.strict,
            findings=findings,
        )
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
            lane.check(sum(channel.n_samples for channel in channels))
            _check_size(channels, claim.source_bytes)
            ready = [chunk for channel in channels for chunk in channel.take_ready(findings.times)]
            findings.times.forget_before(min(channel.first_untaken for channel in channels))
            plan.add(ready, findings.read_bytes / claim.source_bytes / channels[0].n_samples)
    for channel in channels:
        channel.finish()
    _check_size(channels, claim.source_bytes)
    rest = _store_rest(channels, findings.times, inline=claim.options.diarization is None)
    metrics: dict[str, Any] = {
        "prepare_s": round(time.monotonic() - begun, 3),
        "decode_s": round(decode_s, 3),
        "vad_s": round(sum(channel.vad_s for channel in channels), 3),
        "clipped_share": round(max(channel.clipping.share for channel in channels), 6),
    }
    if findings.warnings:
        metrics["warnings"] = [warning._asdict() for warning in findings.warnings]
    if claim.options.multichannel:
        metrics["channels"] = len(channels)
    end = max(channels[0].n_samples, findings.times.time_of(channels[0].n_samples))
    peaks = merge([channel.peaks for channel in channels])
    plan.complete(rest, duration_s=end / SAMPLE_RATE, metrics=metrics, peaks=peaks)
    lane.leave()


def _check_size(channels: Sequence["_Channel"], source_bytes: int) -> None:
    """Refuse a file whose chunks are far longer than any speech of its size.

    Raises:
        AudioTooLong: they are.
    """
    n_bytes = BYTES_PER_SAMPLE * sum(channel.pieces.kept_samples for channel in channels)
    if n_bytes > STORED_ANYWAY_BYTES + STORED_PER_SOURCE_BYTE * source_bytes:
        raise AudioTooLong("The audio is longer than a file of this size can hold speech.")


class _Lane:
    """The queue of a ``prepare`` step; long audio goes to that of large files."""

    def __init__(self, runtime: Runtime, lease: Lease) -> None:
        self._runtime, self._claim = runtime, lease.claim
        self._is_large = lease.claim.queue == LARGE_QUEUE
        self._has_moved = False

    def check(self, n_samples: int) -> None:
        """Move the step once so many samples, of all channels together, are those of a large file.

        Raises:
            LargeFile: enough large files are being prepared.
        """
        if self._is_large or n_samples < LARGE_SAMPLES:
            return
        self._is_large = self._has_moved = True
        runtime = self._runtime
        if not steps.move_to_large(runtime.database, self._claim, live_s=runtime.settings.lease_s):
            raise LargeFile("the audio is long: it waits among the large files")

    def leave(self) -> None:
        """Wake a worker for the next large file: this one was not claimed from their queue."""
        if self._has_moved:
            self._runtime.wakeups.ring(LARGE_QUEUE, 1)


def _store_rest(
    channels: Sequence["_Channel"], times: TimeMap, *, inline: bool
) -> list["_Planned"]:
    """Store the rest of the audio, and return the chunks that were not ready before.

    With ``inline``, the only chunk of a short file has its audio in its step, so no object is
    needed.
    """
    planned = [chunk for channel in channels for chunk in channel.take_planned(times)]
    if len(planned) == 1 and inline:
        (channel,) = (channel for channel in channels if channel.number == planned[0].channel)
        if (audio := channel.pieces.whole(planned[0])) is not None:
            return [_Planned(planned[0], audio)]
    for channel in channels:
        channel.pieces.finish()
    return [_Planned(chunk) for chunk in planned]


class _Planned(NamedTuple):
    """A chunk that is planned; a short file's with its audio."""

    chunk: Chunk
    audio: bytes | None = None

    def step(self) -> NewStep:
        return NewStep(self.chunk.index, chunk_to_json(self.chunk), self.audio)


class _Channel:
    """A channel being prepared: its speech, its chunks, its stored pieces."""

    def __init__(self, runtime: Runtime, lease: Lease, number: int | None, n_channels: int) -> None:
        options = lease.claim.options
        self.number, self._n_channels = number, n_channels
        self._vad = make_vad(options.vad)
        model = runtime.catalogue.get(options.model)
        # Long pauses may lie between languages, and a multilingual job's chunk has one language.
        packed = model.has_fixed_window and not options.multilingual
        self._planner = ChunkPlanner(model.window_s, packed=packed)
        self.pieces = PieceWriter(runtime.storage, lease.claim.job_id, channel=number)
        self._planned: list[Chunk] = []
        self.clipping = ClippingMeter()
        self.peaks = PeakMeter()
        self.n_samples = 0
        self.vad_s = 0.0

    def push(self, samples: Pcm) -> None:
        """Take the next samples, shape (n_samples,)."""
        self.n_samples += len(samples)
        self.clipping.push(samples)
        self.peaks.push(samples)
        asked = time.monotonic()
        spans = self._vad.push(samples)
        self.vad_s += time.monotonic() - asked
        self.pieces.write(samples)
        self._plan(self._planner.push(samples, spans))
        self.pieces.forget_before(self._planner.first_pending)

    def finish(self) -> None:
        """Plan what is left."""
        asked = time.monotonic()
        spans = self._vad.finish()
        self.vad_s += time.monotonic() - asked
        self._plan(self._planner.push(np.zeros(0, np.int16), spans))
        self._plan(self._planner.finish())

    def _plan(self, chunks: Sequence[Chunk]) -> None:
        self._planned += [replace(chunk, stored_at=self.pieces.keep(chunk)) for chunk in chunks]

    @property
    def first_untaken(self) -> int:
        """A sample at or before the start of every chunk to come."""
        if self._planned:
            return self._planned[0].start
        return self._planner.first_pending

    def take_ready(self, times: TimeMap) -> list[Chunk]:
        """Return the chunks whose audio can be read back and whose times are known, each once."""
        stored, known = self.pieces.stored_samples, times.known_until
        ready = takewhile(
            lambda chunk: chunk.stored_at + chunk.n_samples <= stored and chunk.end <= known,
            self._planned,
        )
        return self._take(len(list(ready)), times)

    def take_planned(self, times: TimeMap) -> list[Chunk]:
        """Return all chunks that were not returned yet."""
        return self._take(len(self._planned), times)

    def _take(self, n: int, times: TimeMap) -> list[Chunk]:
        """Return the first ``n`` chunks; they are planned in the order of their ends.

        Their numbers are unique in the job: those of a channel are n_channels apart.
        """
        taken = self._planned[:n]
        del self._planned[:n]
        return [
            replace(
                chunk,
                index=chunk.index * self._n_channels + (self.number or 0),
                channel=self.number,
                times=times.part(chunk.start, chunk.end),
            )
            for chunk in taken
        ]


class _Plan:
    """The steps of the job: its chunks and, if its language is unknown, their hold and release.

    With them come the spans in which speakers are told apart, if they are.
    """

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
        self._spans = SpanPlanner() if options.diarization is not None else None
        self._n_spans = 0
        self._candidates: list[Chunk] = []
        """Chunks from which the language can be detected; ten minutes at most."""

    def add(self, chunks: Sequence[Chunk], sample_share: float) -> None:
        """Add chunks whose audio can be read back.

        ``sample_share`` is one over the number of samples in the file, estimated from the share of
        the file that was read so far and the samples that it gave.
        """
        if not chunks:
            return
        steps.add_chunks(
            self._runtime.database,
            self._claim,
            [_Planned(chunk).step() for chunk in chunks],
            spans=[] if self._spans is None else self._numbered(self._spans.push(chunks)),
            max_attempts=self._runtime.settings.max_attempts,
            share=min(1.0, max(chunk.end for chunk in chunks) * sample_share),
            hold=self._hold,
        )
        if self._detects:
            self._candidates += chunks
            if sum(chunk.n_samples for chunk in self._candidates) >= DETECT_AFTER_SAMPLES:
                steps.add_detect(
                    self._runtime.database,
                    self._claim,
                    self._take_candidates(),
                    max_attempts=self._runtime.settings.max_attempts,
                )

    def complete(
        self,
        rest: Sequence[_Planned],
        *,
        duration_s: float,
        metrics: Mapping[str, Any],
        peaks: bytes,
    ) -> None:
        """Add the last chunks, and make sure that every held chunk is released.

        A job's only chunk needs no ``detect`` step: the language is detected as it is transcribed.
        """
        if self._detects:
            self._candidates += [planned.chunk for planned in rest]
        only = len(self._candidates) <= 1
        spans: list[SpeakerSpan] = []
        if self._spans is not None:
            spans += self._spans.push(planned.chunk for planned in rest)
            spans += self._spans.finish()
        steps.complete_prepare(
            self._runtime.database,
            self._claim,
            duration_s=duration_s,
            metrics=metrics,
            peaks=peaks,
            chunks=[planned.step() for planned in rest],
            spans=self._numbered(spans),
            hold=self._hold and not (self._detects and only),
            release=self._detects and only,
            detect=self._take_candidates() if self._detects and not only else (),
            max_attempts=self._runtime.settings.max_attempts,
        )

    def _numbered(self, spans: Sequence[SpeakerSpan]) -> list[NewStep]:
        first, self._n_spans = self._n_spans, self._n_spans + len(spans)
        return [NewStep(n, span.to_json()) for n, span in enumerate(spans, start=first)]

    def _take_candidates(self) -> list[dict[str, Any]]:
        """Return the chunks that the ``detect`` step hears; after that no other is added."""
        chosen = choose_for_detection(self._candidates)
        self._detects, self._candidates = False, []
        return [chunk_to_json(chunk) for chunk in chosen]


def choose_for_detection(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return the chunk of each third of the audio in which most is heard: they are spread out."""
    in_order = sorted(chunks, key=lambda chunk: chunk.start)
    bounds = [len(in_order) * third // DETECT_CHUNKS for third in range(DETECT_CHUNKS + 1)]
    thirds = [in_order[a:b] for a, b in pairwise(bounds)]
    return [max(third, key=lambda chunk: chunk.n_heard_samples) for third in thirds if third]
