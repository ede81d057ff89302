"""Word error rates on recordings with texts: Longhand's way beside the bare libraries'.

``python -m bench accuracy FOLDER --model ID`` takes each audio file NAME.* of a folder with a
NAME.txt, and prints errors and time by file and pooled. Texts are compared as OpenAI compares them:
English by Whisper's English normaliser, other languages by the basic one.

With ``--variants`` it prints pooled errors for each of ``variants.VARIANTS``, and of how many words
each voice activity detector keeps the middle.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import jiwer
import numpy as np

from bench import kept
from bench.audio import wav_of
from bench.pipeline import as_float, read, transcribe
from bench.variants import VARIANTS, Recording, join
from shared.models import weights
from shared.models.catalogue import ONNX_ENGINES, Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.audio.spans import Span
from worker.engines import load_engine
from worker.engines.protocol import DecodeOptions, Engine

BATCH = 8
"""Windows that the bare libraries decode at once."""
GAP_S = 1.0
"""Silence between recordings that are joined to one file."""


@dataclass(frozen=True, slots=True)
class Errors:
    """What separates a transcript from what was said, in words, and what it took."""

    words: int = 0
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.words + other.words,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
        )

    @property
    def wer(self) -> float:
        return (self.insertions + self.deletions + self.substitutions) / max(1, self.words)


Transcribe = Callable[[Pcm], str]


def run(
    folders: Sequence[Path],
    models: Sequence[Model],
    language: str,
    *,
    joined: bool,
    variants: bool,
) -> None:
    """Print tables for each model, on the recordings of all folders.

    ``joined`` also makes one file of all recordings, as a job of many minutes is. ``variants``
    prints pooled errors of all variants instead of errors by file.
    """
    recordings = [each for folder in folders for each in find_recordings(folder)]
    for model in models:
        print(f"-- {model.id}: {len(recordings)} recordings")
        said = f"{'way':<34}{'variant' if variants else 'file':<28}"
        print(
            f"{said}{'WER %':>7}{'ins':>5}{'del':>5}{'sub':>5}{'words':>7}{'wall s':>8}{'CPU s':>8}"
        )
        for way, heard in ways(model, language):
            if variants:
                print_variants(way, heard, recordings, language)
            else:
                files = [*recordings, join(recordings, GAP_S)] if joined else recordings
                print_way(way, heard, files, language)
        if variants and model.engine == "faster-whisper":
            kept.run(_timed_words(model, language), recordings)


def find_recordings(folder: Path) -> Iterator[Recording]:
    """Yield the audio files of a folder that have a text, by name."""
    for path in sorted(folder.iterdir()):
        said = path.with_suffix(".txt")
        if path.suffix != ".txt" and said.is_file():
            with path.open("rb") as file:
                pcm = np.concatenate([*read(file)])
            yield Recording(path.stem, pcm, said.read_text(encoding="utf-8"))


def print_way(
    way: str, heard: Transcribe, recordings: Sequence[Recording], language: str
) -> Errors:
    """Print a line for each recording and one for the single files together; return the latter."""
    pooled = Errors()
    for recording in recordings:
        errors = measure(heard, recording, language)
        _print_row(way, recording.name, errors)
        if recording.name != "(joined)":
            pooled += errors
    _print_row(way, "pooled", pooled)
    return pooled


def print_variants(
    way: str, heard: Transcribe, recordings: Sequence[Recording], language: str
) -> Errors:
    """Print a line for each variant and one for all together; return the latter."""
    pooled = Errors()
    for name, variant in VARIANTS.items():
        errors = sum((measure(heard, each, language) for each in variant(recordings)), Errors())
        _print_row(way, name, errors)
        pooled += errors
    _print_row(way, "all", pooled)
    return pooled


def measure(heard: Transcribe, recording: Recording, language: str) -> Errors:
    """Transcribe a recording; return its errors, and the time that it took."""
    wall_s, cpu_s = time.perf_counter(), _cpu_s()
    text = heard(recording.pcm)
    taken = time.perf_counter() - wall_s, _cpu_s() - cpu_s
    return compare(recording.text, text, language, *taken)


def compare(
    said: str, heard: str, language: str, wall_s: float = 0.0, cpu_s: float = 0.0
) -> Errors:
    """Return the errors of a transcript, both texts normalised."""
    # Other measurements need not wait seconds for this.
    from transformers.models.whisper import english_normalizer

    # Without the library's list of spellings: it is in no package.
    normalise: Any = (
        english_normalizer.EnglishTextNormalizer({})
        if language == "en"
        else english_normalizer.BasicTextNormalizer()
    )
    reference, hypothesis = normalise(said), normalise(heard)
    found = jiwer.process_words(reference, hypothesis)
    return Errors(
        len(reference.split()),
        found.insertions,
        found.deletions,
        found.substitutions,
        wall_s,
        cpu_s,
    )


def ways(model: Model, language: str) -> Iterator[tuple[str, Transcribe]]:
    """Yield ways to transcribe with the same weights; each is loaded as it is asked for."""
    engine = load_engine(model)
    yield "Longhand", _longhand(engine, model, language)
    folder, _ = weights.pinned(model)
    if model.engine == "faster-whisper":
        yield from _faster_whisper(folder, engine, language)
    elif model.engine == "transformers-whisper":
        yield "transformers, long form, greedy", _pipeline(folder)
    elif model.engine in ONNX_ENGINES:
        yield "onnx-asr, the whole at once", _onnx_asr(model, folder)


def _longhand(engine: Engine, model: Model, language: str) -> Transcribe:
    options = DecodeOptions(language=language, beam_size=model.decode.beam_size)

    def heard(pcm: Pcm) -> str:
        file: BinaryIO = wav_of(pcm)
        outcome = transcribe(
            read(file),
            engine,
            vad=model.vad,
            window_s=model.window_s,
            packed=model.has_fixed_window,
            options=options,
        )
        return " ".join(word.text for word in outcome.words)

    return heard


def _faster_whisper(
    folder: Path, engine: Engine, language: str
) -> Iterator[tuple[str, Transcribe]]:
    """Yield the library's own ways, on the device and in the type of Longhand's engine."""
    from faster_whisper import BatchedInferencePipeline

    model = _bare(folder, engine.device, engine.dtype)
    batched = BatchedInferencePipeline(model)
    usual: dict[str, Any] = {"language": language, "beam_size": 5, "word_timestamps": True}

    def one_by_one(pcm: Pcm, *, vad_filter: bool) -> str:
        segments, _ = model.transcribe(as_float(pcm), vad_filter=vad_filter, **usual)
        return "".join(segment.text for segment in segments)

    def in_batches(pcm: Pcm) -> str:
        segments, _ = batched.transcribe(as_float(pcm), batch_size=BATCH, **usual)
        return "".join(segment.text for segment in segments)

    yield "faster-whisper, one by one", lambda pcm: one_by_one(pcm, vad_filter=False)
    yield "faster-whisper, one by one, VAD", lambda pcm: one_by_one(pcm, vad_filter=True)
    yield f"faster-whisper, batches of {BATCH}", in_batches


def _timed_words(model: Model, language: str) -> Callable[[Pcm], Iterator[Span]]:
    """Return what says where the words of a recording are, as the bare library times them."""
    folder, _ = weights.pinned(model)
    bare = _bare(folder, "auto", "auto")

    def words(pcm: Pcm) -> Iterator[Span]:
        segments, _ = bare.transcribe(as_float(pcm), language=language, word_timestamps=True)
        for word in (word for segment in segments for word in segment.words):
            yield Span(round(word.start * SAMPLE_RATE), round(word.end * SAMPLE_RATE))

    return words


def _bare(folder: Path, device: str, dtype: str) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(folder), device=device, compute_type=dtype, local_files_only=True)


def _pipeline(folder: Path) -> Transcribe:
    from transformers import pipeline

    recogniser: Any = pipeline("automatic-speech-recognition", model=str(folder), dtype="float32")

    def heard(pcm: Pcm) -> str:
        found = recogniser(
            {"raw": as_float(pcm), "sampling_rate": SAMPLE_RATE}, return_timestamps=True
        )
        return str(found["text"])

    return heard


def _onnx_asr(model: Model, folder: Path) -> Transcribe:
    import onnx_asr

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    recognizer: Any = onnx_asr.load_model(kind, folder, quantization=model.quantization)
    return lambda pcm: str(recognizer.recognize(as_float(pcm), sample_rate=SAMPLE_RATE))


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system


def _print_row(way: str, name: str, errors: Errors) -> None:
    print(
        f"{way:<34}{name:<28}{100 * errors.wer:>7.2f}{errors.insertions:>5}{errors.deletions:>5}"
        f"{errors.substitutions:>5}{errors.words:>7}{errors.wall_s:>8.1f}{errors.cpu_s:>8.1f}",
        flush=True,
    )
