"""One side of a comparison, in a process of its own: ``python sides.py SIDE`` with JSON on stdin.

What is measured comes from the tree on ``PYTHONPATH``, so this file imports nothing of the benches.
A JSON object on stdout says how long the work took once everything was loaded: ``wall_s``,
``cpu_s`` of all threads, and ``n_words``, so that a side which hears nothing is seen.
"""

import io
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000
BATCH = 8
"""The batch of faster-whisper's and the pipeline's own examples."""

Work = Callable[[], int]
"""Does the work once and returns how many words it heard."""


def file_ours(given: dict[str, Any]) -> Work:
    """Decode, find speech, plan, infer, stitch: the platform's stages without the platform."""
    from shared.speech.audio.voice_activity import make_vad
    from shared.speech.chunks.chunk import Chunk
    from shared.speech.chunks.packing import pack
    from shared.speech.transcript.stitching import Stitcher
    from worker.media.decode import decode
    from worker.media.planner import ChunkPlanner

    model, batcher, options = _batcher(given)

    def work() -> int:
        detector = make_vad(model.vad)
        planner = ChunkPlanner(model.window_s, packed=model.has_fixed_window)
        with Path(given["audio"]).open("rb") as file:
            blocks = [block for (block,) in decode(file, 24 * 3600)]
        pcm = np.concatenate(blocks)
        chunks: list[Chunk] = []
        for block in blocks:
            chunks += planner.push(block, detector.push(block))
        chunks += [*planner.push(pcm[:0], detector.finish()), *planner.finish()]
        packed = [pack(c, pcm[c.start : c.end].astype(np.float32) / 32768) for c in chunks]
        futures = [batcher.submit(each.item, options) for each in packed]
        heard = [
            each.unpack(future.result().hypothesis)
            for each, future in zip(packed, futures, strict=True)
        ]
        stitched = Stitcher(len(pcm)).stitch([list(zip(chunks, heard, strict=True))])
        return sum(len(segment.words) for segment in stitched)

    return work


def file_bare(given: dict[str, Any]) -> Work:
    """faster-whisper in batches, with its VAD and word times."""
    from faster_whisper import BatchedInferencePipeline

    pipeline = BatchedInferencePipeline(_bare(given))

    def work() -> int:
        segments, _ = pipeline.transcribe(
            given["audio"], batch_size=BATCH, beam_size=5, word_timestamps=True, language="en"
        )
        return sum(len(segment.words or ()) for segment in segments)

    return work


def items_ours(given: dict[str, Any]) -> Work:
    """Items of a file of samples, all at once through a batcher."""
    _, batcher, options = _batcher(given)
    items = _items(given)

    def work() -> int:
        futures = [batcher.submit(item, options) for item in items]
        return sum(len(future.result().hypothesis.words) for future in futures)

    return work


def items_bare(given: dict[str, Any]) -> Work:
    """The same, one by one, with faster-whisper."""
    whisper, items = _bare(given), _items(given)

    def work() -> int:
        n_words = 0
        for item in items:
            segments, _ = whisper.transcribe(item, beam_size=5, word_timestamps=True, language="en")
            n_words += sum(len(segment.words or ()) for segment in segments)
        return n_words

    return work


def items_onnx_asr(given: dict[str, Any]) -> Work:
    """The same, one by one, with onnx-asr."""
    recognizer, items = _recognizer(given), _items(given)

    def work() -> int:
        heard = [recognizer.recognize(item, sample_rate=RATE) for item in items]
        return sum(len(each.text.split()) for each in heard)

    return work


def file_onnx_asr(given: dict[str, Any]) -> Work:
    """A file, decoded and cut into windows, one by one with onnx-asr."""
    from worker.media.decode import decode

    recognizer, n_window = _recognizer(given), round(given["window_s"] * RATE)

    def work() -> int:
        with Path(given["audio"]).open("rb") as file:
            pcm = np.concatenate([block for (block,) in decode(file, 24 * 3600)])
        samples = pcm.astype(np.float32) / 32768
        windows = [samples[at : at + n_window] for at in range(0, len(samples), n_window)]
        heard = [recognizer.recognize(window, sample_rate=RATE) for window in windows]
        return sum(len(each.text.split()) for each in heard)

    return work


def items_pipeline(given: dict[str, Any]) -> Work:
    """The same with the pipeline of transformers, in batches."""
    from transformers import pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    recognizer = pipeline("automatic-speech-recognition", model=given["folder"], device="cpu")
    # The tokenizer of a converted model may name none, and a batch is padded with it.
    recognizer.tokenizer.pad_token_id = recognizer.model.config.eos_token_id
    items = _items(given)

    def work() -> int:
        heard = recognizer(
            [{"raw": item, "sampling_rate": RATE} for item in items],
            batch_size=BATCH,
            return_timestamps=given["times"],
            generate_kwargs={"num_beams": 1},
        )
        return sum(len(each["text"].split()) for each in heard)

    return work


def _batcher(given: dict[str, Any]) -> tuple[Any, Any, Any]:
    from shared.infra.settings import Settings
    from shared.models.catalogue import load_catalogue
    from worker.batching.batcher import Batcher
    from worker.batching.load import load
    from worker.engines.protocol import DecodeOptions

    model = load_catalogue(Path(given["catalogue"])).get(given["model"])
    beam_size = given.get("beam_size", model.decode.beam_size)
    # Batch sizes are measured with the model's own beam.
    decode = model.decode.model_copy(update={"beam_size": beam_size})
    model = model.model_copy(update={"decode": decode})
    options = DecodeOptions(language=model.only_language or "en", beam_size=beam_size)
    return model, Batcher(load(model, Settings(device="cpu")).engine), options


def _bare(given: dict[str, Any]) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(given["folder"], device="cpu", compute_type="int8", local_files_only=True)


def _recognizer(given: dict[str, Any]) -> Any:
    import onnx_asr

    kind = json.loads((Path(given["folder"]) / "config.json").read_text())["model_type"]
    return onnx_asr.load_model(
        kind,
        given["folder"],
        quantization=given["quantization"],
        providers=["CPUExecutionProvider"],
    ).with_timestamps()


def _items(given: dict[str, Any]) -> list[Any]:
    with np.load(given["items"]) as arrays:
        return [arrays[name] for name in arrays.files]


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


SIDES = {
    "file-ours": file_ours,
    "file-bare": file_bare,
    "items-ours": items_ours,
    "items-bare": items_bare,
    "file-onnx-asr": file_onnx_asr,
    "items-onnx-asr": items_onnx_asr,
    "items-pipeline": items_pipeline,
}


def main() -> None:
    """Load, do the work once, and say what it took."""
    given = json.load(sys.stdin)
    out, sys.stdout = sys.stdout, io.StringIO()  # libraries print
    work = SIDES[sys.argv[1]](given)
    begun, cpu_s = time.perf_counter(), _cpu_s()
    n_words = work()
    took = {"wall_s": time.perf_counter() - begun, "cpu_s": _cpu_s() - cpu_s, "n_words": n_words}
    print(json.dumps(took), file=out, flush=True)


if __name__ == "__main__":
    main()
