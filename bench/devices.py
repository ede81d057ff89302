"""A model on every device and in every dtype at hand, against the first of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import jiwer
import numpy as np

from bench.speech import heldout, recite
from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models.catalogue import EngineName, Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Engine

N_CHUNKS = 32
"""Each variant hears all of them once before it is timed, so a compiler has seen every shape."""


class Variant(NamedTuple):
    """One way to run a model."""

    device: Literal["cpu", "cuda"]
    dtype: str
    compile: bool = False

    def __str__(self) -> str:
        return f"{self.device} {self.dtype}{' compiled' if self.compile else ''}"


VARIANTS: Mapping[EngineName, Sequence[Variant]] = {
    "transformers-whisper": (
        Variant("cpu", "float32"),
        Variant("cpu", "bfloat16"),
        Variant("cpu", "float32", compile=True),
        Variant("cuda", "float32"),
        Variant("cuda", "float16"),
        Variant("cuda", "bfloat16"),
        Variant("cuda", "float16", compile=True),
    ),
    "transformers-ctc": (
        Variant("cpu", "float32"),
        Variant("cpu", "bfloat16"),
        Variant("cuda", "float32"),
        Variant("cuda", "float16"),
        Variant("cuda", "bfloat16"),
    ),
    "faster-whisper": (
        Variant("cpu", "float32"),
        Variant("cpu", "int8"),
        Variant("cuda", "float16"),
        Variant("cuda", "int8_float16"),
    ),
    "onnx-ctc": (Variant("cpu", "auto"), Variant("cuda", "auto")),
    "onnx-transducer": (Variant("cpu", "auto"), Variant("cuda", "auto")),
}
"""By engine; the first is what the others are compared with."""


def run(models: Sequence[Model]) -> None:
    """Print a table of each model; what this machine lacks says so in its line."""
    for model in models:
        print(f"-- {model.id}, {N_CHUNKS} chunks of up to {model.window_s:g} s")
        print(
            f"{'on':<24}{'WER %':>8}{'words as first %':>18}{'times off, ms':>15}"
            f"{'max batch':>11}{'RTFx':>7}{'load s':>8}"
        )
        for line in _lines(model):
            print(line, flush=True)


def _lines(model: Model) -> Iterator[str]:
    chunks, spoken = _chunks(model.window_s)
    first: list[list[tuple[str, int]]] | None = None
    for variant in VARIANTS.get(model.engine, ()):
        begun = time.monotonic()
        try:
            engine = load_engine(
                model, device=variant.device, dtype=variant.dtype, compile=variant.compile
            )
            load_s = time.monotonic() - begun
            _transcribe(engine, model, chunks)
            begun = time.monotonic()
            heard = _transcribe(engine, model, chunks)
        except (ModelError, DeviceOutOfMemory, EngineFailed) as error:
            yield f"{variant!s:<24}  {error}"
            continue
        wall_s = time.monotonic() - begun
        first = first or heard
        wer = jiwer.wer(spoken, [" ".join(word for word, _ in words) for words in heard])
        same, off_ms = _compare(first, heard)
        audio_s = sum(map(len, chunks)) / SAMPLE_RATE
        yield (
            f"{variant!s:<24}{100 * wer:>8.2f}{100 * same:>18.2f}{off_ms:>15.1f}"
            f"{engine.max_batch:>11}{audio_s / wall_s:>7.0f}{load_s:>8.2f}"
        )


def _chunks(window_s: float) -> tuple[list[Samples], list[str]]:
    """Return chunks of whole sentences, as many as fit the window, and what is said in each."""
    rng = np.random.default_rng(1)
    chunks: list[Samples] = []
    texts = []
    for _ in range(N_CHUNKS):
        recital = recite(heldout(), 2 * window_s, rng, (0.3, 0.6))
        n = max(1, sum(span.end <= window_s * SAMPLE_RATE for span in recital.spans))
        chunks.append(recital.samples[: recital.spans[n - 1].end])
        texts.append(" ".join(recital.texts[:n]))
    return chunks, texts


def _transcribe(
    engine: Engine, model: Model, chunks: Sequence[Samples]
) -> list[list[tuple[str, int]]]:
    """Return (word, its start in samples) of each chunk, heard in the engine's own batches."""
    options = DecodeOptions(language=model.only_language or "en", beam_size=model.decode.beam_size)
    heard: list[list[tuple[str, int]]] = []
    for at in range(0, len(chunks), engine.max_batch):
        heard += [
            [(word.text.strip(), word.start) for word in hypothesis.words]
            for hypothesis in engine.transcribe(chunks[at : at + engine.max_batch], options)
        ]
    return heard


def _compare(
    first: Sequence[Sequence[tuple[str, int]]], other: Sequence[Sequence[tuple[str, int]]]
) -> tuple[float, float]:
    """Return the share of equal words, and how far their starts lie apart, median, in ms."""
    n_same, n_words, apart = 0, 0, [0.0]
    for expected, got in zip(first, other, strict=True):
        (parts,) = jiwer.process_words(
            " ".join(word for word, _ in expected) or "-", " ".join(word for word, _ in got) or "-"
        ).alignments
        n_words += len(expected)
        for part in parts:
            if part.type == "equal" and expected:
                pairs = zip(
                    expected[part.ref_start_idx : part.ref_end_idx],
                    got[part.hyp_start_idx : part.hyp_end_idx],
                    strict=True,
                )
                apart += [abs(a - b) / SAMPLE_RATE * 1000 for (_, a), (_, b) in pairs]
                n_same += part.ref_end_idx - part.ref_start_idx
    return n_same / max(1, n_words), float(np.median(apart))
