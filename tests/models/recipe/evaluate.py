"""Word error rates on held-out sentences, and words made up where nothing is said.

Each model runs in the library that it is made for, with that library's own features and decoding.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jiwer
import numpy as np

from tests.models.recipe.data import SAMPLE_RATE, Audio, Clip, noise, pick
from tests.models.recipe.windows import Stage, Window, fill_window

Recognize = Callable[[Audio], str]
WINDOW_SAMPLES = 30 * SAMPLE_RATE


def load_faster_whisper(folder: Path) -> Recognize:
    """The CTranslate2 Whisper, decoded as Longhand's engine does."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)

    def recognize(audio: Audio) -> str:
        segments, _ = model.transcribe(
            audio, language="en", beam_size=5, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    return recognize


def load_transformers_whisper(folder: Path) -> Recognize:
    """Whisper in PyTorch, greedy, with timestamps."""
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = WhisperProcessor.from_pretrained(folder)

    def recognize(audio: Audio) -> str:
        features = processor.feature_extractor(
            audio, sampling_rate=SAMPLE_RATE, return_tensors="pt"
        ).input_features
        tokens = model.generate(features, language="en", task="transcribe", return_timestamps=True)
        return str(processor.tokenizer.decode(tokens[0], skip_special_tokens=True))

    return recognize


def load_transformers_ctc(folder: Path) -> Recognize:
    """w2v-BERT in PyTorch, the likeliest letter of each frame."""
    import torch
    from transformers import AutoModelForCTC, AutoProcessor

    from tests.models.recipe.features import DITHER

    model = AutoModelForCTC.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    rng = np.random.default_rng(0)

    def recognize(audio: Audio) -> str:
        dithered = audio + DITHER * rng.standard_normal(len(audio), np.float32)
        features = processor(dithered, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.no_grad():
            letters = model(**features).logits.argmax(-1)
        return str(processor.batch_decode(letters)[0])

    return recognize


def load_onnx_asr(folder: Path) -> Recognize:
    """The exported conformer or transducer, in ONNX Runtime."""
    import onnx_asr

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    model = onnx_asr.load_model(kind, folder, providers=["CPUExecutionProvider"])
    return lambda audio: str(model.recognize(audio, sample_rate=SAMPLE_RATE))


LOADERS: dict[str, Callable[[Path], Recognize]] = {
    "whisper-ct2": load_faster_whisper,
    "whisper": load_transformers_whisper,
    "ctc": load_transformers_ctc,
    "conformer": load_onnx_asr,
    "transducer": load_onnx_asr,
}


def evaluate(recognize: Recognize, clips: Sequence[Clip], n_windows: int) -> dict[str, float]:
    """Return error rates on single sentences and on full windows, and words heard in quiet ones."""
    rng = np.random.default_rng(7)
    silence = np.zeros(SAMPLE_RATE // 4, np.float32)
    alone = [np.concatenate([silence, clip.audio, silence]) for clip in clips]
    stage = Stage(0, 1, (), n_sentences=9, window_s=30.0)
    drawn = pick(clips, rng)
    filled = (fill_window(stage, drawn, rng) for _ in range(4 * n_windows))
    windows: list[Window] = [window for window in filled if window.sentences][:n_windows]
    quiet = [np.zeros(WINDOW_SAMPLES, np.float32)]
    quiet += [noise(WINDOW_SAMPLES, rng) * np.float32(10 ** (db / 20)) for db in range(-70, -5, 5)]
    return {
        "WER of sentences": jiwer.wer([clip.text for clip in clips], [*map(recognize, alone)]),
        "WER of 30 s windows": jiwer.wer(
            [window.text for window in windows], [recognize(window.audio) for window in windows]
        ),
        f"words in {len(quiet)} quiet windows": float(
            sum(len(recognize(audio).split()) for audio in quiet)
        ),
    }
