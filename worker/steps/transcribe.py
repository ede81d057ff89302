"""The ``transcribe`` step: chunks of all running jobs through the batcher."""

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from shared.infra import logs
from shared.infra.errors import EngineFailed, LeaseLost
from shared.infra.tracing import Span as TraceSpan
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.audio.spans import Span
from shared.speech.chunks.chunk import Chunk, chunk_from_json
from shared.speech.chunks.hypothesis import Hypothesis, hypothesis_to_json
from shared.speech.chunks.packing import Packed, pack
from shared.speech.chunks.unheard import Listening
from shared.store import steps
from shared.store.chunks import ChunkOutput
from shared.store.states import StepKind
from shared.store.steps import ChunkResult, Claim
from worker.batching.items import Inference
from worker.engines.protocol import DecodeOptions
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime
from worker.process.watched import Shown
from worker.steps.detect import detect
from worker.steps.finish import fold
from worker.steps.infer import batcher_of, restart, submit
from worker.steps.pcm import read_pcm, samples_of
from worker.steps.run import run_step, settle
from worker.steps.speakers import find_speakers

_GATHER_S = 0.02
"""How long chunks wait for others of their call to be finished, so that one transaction completes
them."""


def infer_steps(runtime: Runtime, leases: Sequence[Lease]) -> None:
    """Do the steps that a model worker has claimed together, and record how each ended."""
    heard = _Heard(runtime)
    heard.submit([lease for lease in leases if lease.claim.kind == StepKind.TRANSCRIBE])
    for lease in leases:
        if lease.claim.kind == StepKind.DETECT:
            run_step(runtime, lease, detect)
    heard.complete()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the batcher was given of a chunk."""

    future: Future[Inference]
    packed: Packed

    @property
    def hypothesis(self) -> Hypothesis:
        """What was heard, with times in samples of the chunk, or of the slice."""
        return self.packed.unpack(self.future.result().hypothesis)


@dataclass(slots=True, eq=False)
class _Chunk:
    """A chunk that this worker holds, and how far it has come."""

    lease: Lease
    chunk: Chunk
    shown: Shown
    span: TraceSpan
    samples: Samples | None = None
    """None until they are read."""
    read_s: float = 0.0
    first: Inference | None = None
    """The result for the whole chunk; None until there is one."""
    listening: Listening | None = None
    """Finds what was left unheard; None until the whole was heard."""
    asked: list[_Asked] = field(default_factory=list)
    """At first the whole chunk, then the slices of the current round."""
    n_reheard: int = 0
    reheard_s: float = 0.0
    """Device time of all slices; that of a batch is divided among its items."""

    @property
    def claim(self) -> Claim:
        return self.lease.claim


class _Heard:
    """Chunks on their way through the batcher; the chunks of a batch are completed together.

    Speech that a chunk's first hypothesis leaves out is heard again, in later batches
    (``shared.speech.chunks.unheard``).
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: dict[Future[Inference], _Chunk] = {}
        """The chunk of each future that the batcher has yet to settle."""

    def submit(self, leases: Sequence[Lease]) -> None:
        """Read the chunks' samples in parallel; hand each chunk over once it is read."""
        begun = time.monotonic()
        reads = {}
        for lease in leases:
            claim = lease.claim
            shown = self._runtime.watched.begin(claim)
            span = steps.begin_attempt(claim)
            item = _Chunk(lease, chunk_from_json(claim.idx, claim.input), shown, span)
            if claim.audio is None:
                reads[self._runtime.readers.submit(_read, self._runtime, item)] = item
            else:
                item.samples = samples_of(claim.audio)
                with self._settling(item):
                    self._ask(item, [Span(0, item.chunk.n_samples)])
        for read in as_completed(reads):
            item = reads[read]
            with self._settling(item):
                item.samples = read.result()
                item.read_s = time.monotonic() - begun
                self._ask(item, [Span(0, item.chunk.n_samples)])

    def complete(self) -> None:
        """Wait for the batcher, and complete chunks as they come out of it."""
        while self._waiting:
            settled = self._next_settled()
            results = []
            for future in settled:
                item = self._waiting.pop(future, None)
                if item is None:  # another slice of its chunk has failed
                    continue
                with self._settling(item):
                    if future.cancelled():
                        raise LeaseLost(f"step {item.claim.step_id} is no longer held")
                    if self._is_done(item, future.result()):
                        results.append((item, self._result(item)))
            self._complete(results)

    def _next_settled(self) -> Collection[Future[Inference]]:
        """Wait for the batcher to settle some chunks; a job's only chunk waits for no other."""
        settled, left = wait(self._waiting, return_when=FIRST_COMPLETED)
        if any(self._waiting[future].claim.only_chunk for future in settled):
            return settled
        in_calls = [future for future in left if future.running()]
        return settled | wait(in_calls, timeout=_GATHER_S).done

    def _ask(self, item: _Chunk, slices: Sequence[Span]) -> None:
        item.asked = [self._hand_over(item, heard) for heard in slices]

    def _hand_over(self, item: _Chunk, heard: Span) -> _Asked:
        """Have the batcher hear a slice of a chunk, without its long pauses."""
        assert item.samples is not None, "it was read before it is heard"
        packed = pack(item.chunk, item.samples, heard)
        options = decode_options(self._runtime, item.claim)
        if item.first is not None and options.language is None:
            options = replace(options, language=item.first.hypothesis.language)
        future = submit(self._runtime, item.claim, packed.item, options, item.span)
        self._waiting[future] = item
        item.lease.when_lost(future.cancel)  # it is not heard if it still waits
        return _Asked(future, packed)

    def _is_done(self, item: _Chunk, inference: Inference) -> bool:
        """Take what was heard of a chunk; have the batcher hear again what is still unheard."""
        assert item.samples is not None, "it was read before it was heard"
        if item.listening is None:
            item.first = inference
            (whole,) = item.asked
            item.listening = Listening(item.chunk, item.samples, whole.hypothesis)
        else:
            item.n_reheard += 1
            item.reheard_s += inference.inference_s / max(1, inference.batch_size)
            if not all(asked.future.done() for asked in item.asked):
                return False
            item.listening.take([asked.hypothesis for asked in item.asked])
        self._ask(item, item.listening.next_slices())
        return not item.asked

    def _complete(self, results: Sequence[tuple[_Chunk, ChunkResult]]) -> None:
        several = []
        for item, result in results:
            if result.claim.only_chunk:
                self._complete_only(item, result)
            else:
                several.append((item, result))
        if not several:
            return
        with self._settling(*(item for item, _ in several)):
            lost = steps.complete_chunks(
                self._runtime.database,
                [result for _, result in several],
                max_attempts=self._runtime.settings.max_attempts,
            )
            for item, result in several:
                if result.claim in lost:
                    self._give_up(item, LeaseLost(f"step {result.claim.step_id} is no longer held"))
                else:
                    self._note_done(item, result)

    def _complete_only(self, item: _Chunk, result: ChunkResult) -> None:
        row = ChunkOutput(item.claim.idx, item.claim.input, result.output, result.timings)

        def rows_of(channel: int | None) -> list[ChunkOutput]:
            return [row] if channel == item.chunk.channel else []

        with self._settling(item), item.span.active():
            speakers = find_speakers(self._runtime, item.claim)
            folded = fold(self._runtime, item.claim, speakers, lambda: [row], rows_of)
            listening = self._runtime.settings.keep_listening_s > 0
            steps.complete_only_chunk(self._runtime.database, result, folded, listening=listening)
            self._note_done(item, result)

    def _note_done(self, item: _Chunk, result: ChunkResult) -> None:
        self._runtime.record.note_success(item.claim.kind)
        item.shown.end()
        item.span.set({f"longhand.chunk.{name}": said for name, said in result.timings.items()})
        item.span.end()

    @contextmanager
    def _settling(self, *items: _Chunk) -> Iterator[None]:
        """Settle the steps of these chunks if the block fails."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - settled by its class
            for item in items:
                self._give_up(item, error)

    def _give_up(self, item: _Chunk, error: Exception) -> None:
        for asked in item.asked:
            asked.future.cancel()
            self._waiting.pop(asked.future, None)
        with item.span.active(), logs.bound(job_id=item.claim.job_id, step_id=item.claim.step_id):
            was_held = settle(self._runtime, item.claim, error)
        item.shown.end(error)
        steps.end_attempt(self._runtime.database, item.claim, item.span, error, was_held=was_held)
        if isinstance(error, EngineFailed):
            restart(error)

    def _result(self, item: _Chunk) -> ChunkResult:
        assert item.first is not None, "it was heard"
        assert item.listening is not None, "it was heard"
        batcher, first = batcher_of(self._runtime), item.first
        output = hypothesis_to_json(item.listening.hypothesis) | {
            "engine": batcher.engine_version,
            "weights": batcher.weights_digest,
            "device": batcher.device,
        }
        timings = {
            "read_s": round(item.read_s, 4),
            "batch_wait_s": round(first.batch_wait_s, 4),
            "inference_s": round(first.inference_s, 4),
            "batch_size": first.batch_size,
            "audio_s": item.chunk.n_heard_samples / SAMPLE_RATE,
            "device_memory_bytes": first.device_memory_bytes,
        }
        if item.n_reheard:
            timings |= {"reheard": item.n_reheard, "reheard_s": round(item.reheard_s, 4)}
        return ChunkResult(
            item.claim, output, timings, audio_s=item.chunk.n_core_samples / SAMPLE_RATE
        )


def _read(runtime: Runtime, item: _Chunk) -> Samples:
    with item.span.active():
        return read_pcm(runtime.storage, item.claim.job_id, item.chunk)


def decode_options(runtime: Runtime, claim: Claim) -> DecodeOptions:
    """Return how the job's chunks are to be decoded."""
    asked = claim.options
    return DecodeOptions(
        language=claim.language,
        task=asked.task,
        prompt=asked.prompt,
        hotwords=asked.hotwords,
        beam_size=runtime.catalogue.get(asked.model).decode.beam_size,
    )
