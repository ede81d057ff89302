"""Models of full size with random weights, generated on the machine that measures them.

What a network computes takes the same time whatever its weights are, but what a Whisper says
decides how long it decodes. So its decoder is given a clock: it says a timestamp and words that
differ from each other, is sure of them, so that no fallback is called for, and ends after
``n_answer`` tokens.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from shared.models import weight_files as files
from shared.models.catalogue import EngineName, Model
from shared.models.weight_files import digest
from shared.speech.audio.rate import SAMPLE_RATE

N_TIMESTAMPS = 1_501
POSITIONS = 448
FRAMES = 1_500
"""Of 20 ms, in a window of 30 s."""
N_PROMPT = 4
"""Start of transcript, language, task, no timestamps."""
WHISPER_CODES: tuple[str, ...] = (
    *("en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv"),
    *("it", "id", "hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no"),
    *("th", "ur", "hr", "bg", "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr"),
    *("az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw"),
    *("gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu"),
    *("am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl"),
    *("mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue"),
)
"""The language tokens of the third generation, in their order."""
CTC_SYMBOLS = ["<pad>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]


@dataclass(frozen=True, slots=True)
class WhisperShape:
    """A Whisper's sizes, and how much it says."""

    width: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    n_text: int
    """Tokens of text, those of single bytes among them."""
    mels: int = 128
    n_answer: int = 120
    """Tokens it says to a window, a timestamp among them, before it ends."""
    alignment_heads: tuple[tuple[int, int], ...] = ()

    engine: EngineName = "transformers-whisper"
    window_s: float = 30.0

    def flops(self, _seconds: float) -> float:
        """Count what a window takes at least: multiplications and additions of all matrices.

        Encoder; keys and values of its output in each layer of the decoder; prompt and answer
        through the decoder once.
        """
        d, ff = self.width, 4 * self.width
        encoder = 2 * FRAMES * (2 * self.mels * d * 3 + d * d * 3)
        encoder += self.encoder_layers * 2 * FRAMES * (4 * d * d + 2 * d * ff + 2 * FRAMES * d)
        read = self.decoder_layers * 2 * FRAMES * 2 * d * d
        n = N_PROMPT + self.n_answer
        per_token = self.decoder_layers * 2 * (6 * d * d + 2 * d * ff + 2 * (FRAMES + n / 2) * d)
        said = self.n_answer * 2 * d * (self.n_text + len(WHISPER_CODES) + 8 + N_TIMESTAMPS)
        return float(encoder + read + n * per_token + said)


@dataclass(frozen=True, slots=True)
class W2vBertShape:
    """A w2v-BERT's sizes, with the adapter that fine-tunings of it have."""

    width: int
    heads: int
    layers: int

    engine: EngineName = "transformers-ctc"
    window_s: float = 20.0

    def flops(self, seconds: float) -> float:
        """Count what audio of this length takes at least: multiplications and additions."""
        d, frames = self.width, 50 * seconds
        per_layer = 2 * frames * (4 * d * 4 * d + 4 * d * d + 3 * d * d + 31 * d)
        attention = 6 * frames**2 * d  # scores, their relative positions, and values
        return float(self.layers * (per_layer + attention))


Shape = WhisperShape | W2vBertShape

LARGE_V3 = WhisperShape(
    1280, 20, 32, 32, 50_257,
    alignment_heads=((7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4),
                     (24, 1), (25, 6)),
)  # fmt: skip
TURBO = WhisperShape(
    1280, 20, 32, 4, 50_257,
    alignment_heads=((2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)),
)  # fmt: skip
W2V_BERT = W2vBertShape(1024, 16, 24)
TINY_WHISPER = WhisperShape(64, 2, 1, 2, 1_000, n_answer=12, alignment_heads=((0, 0), (1, 1)))
TINY_W2V_BERT = W2vBertShape(32, 2, 2)


def make(shape: Shape, folder: Path, device: str) -> Model:
    """Write a model's files, unless they are there already; return its catalogue entry."""
    if not (folder / "made").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(shape, WhisperShape):
            _write_whisper(shape, folder, device)
        else:
            _write_w2v_bert(shape, folder, device)
        # A name of 64 digits stands for the content (shared/models/weights.py): gigabytes of
        # random numbers need not be read again for their digest.
        blob = folder / hashlib.sha256(folder.name.encode()).hexdigest()
        (folder / files.SAFETENSORS).rename(blob)
        (folder / files.SAFETENSORS).symlink_to(blob.name)
        (folder / "made").touch()
    return Model(
        id=folder.name,
        description="Random weights.",
        engine=shape.engine,
        source=f"file:{folder.resolve()}",
        revision=digest(folder, files.present(shape.engine, folder)),
        languages=frozenset({"en"}),
        window_s=shape.window_s,
        vad="silero",
        size_bytes=0,
    )


def special_tokens(codes: Sequence[str]) -> list[str]:
    """Return Whisper's tokens after the text, without timestamps, for its own language codes."""
    return [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in codes),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]


def timestamp_tokens() -> list[str]:
    """Return Whisper's last tokens."""
    return [f"<|{i * 0.02:.2f}|>" for i in range(N_TIMESTAMPS)]


def write_tokenizer(folder: Path, vocabulary: Sequence[str], n_text: int) -> None:
    """Write a byte-level tokenizer; text tokens of several letters are only ever decoded."""
    text = {token: i for i, token in enumerate(vocabulary[:n_text])}
    tokenizer = Tokenizer(models.BPE(vocab=text, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in vocabulary[n_text:]])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "WhisperTokenizer"})
    )


def _words(n: int) -> list[str]:
    """Make up words that zlib finds little to repeat in, each with its space ('Ġ') before it."""
    syllables = [c + v for c in "bcdfghjklmnpqrstvwxz" for v in "aeiou"]
    scattered = (i * 7_919 % 1_000_000 for i in range(n))
    return [f"Ġ{syllables[i // 10_000]}{syllables[i // 100 % 100]}{syllables[i % 100]}"
            for i in scattered]  # fmt: skip


def _write_whisper(shape: WhisperShape, folder: Path, device: str) -> None:
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *_words(shape.n_text - len(letters)), *special_tokens(WHISPER_CODES)]
    vocabulary += timestamp_tokens()
    ids = {token: i for i, token in enumerate(vocabulary)}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=shape.mels,
        d_model=shape.width,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=4 * shape.width,
        decoder_ffn_dim=4 * shape.width,
        max_source_positions=FRAMES,
        max_target_positions=POSITIONS,
        tie_word_embeddings=False,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **ends,
    )
    network = _random(WhisperForConditionalGeneration, config, device)
    decoder, out = network.model.decoder, network.proj_out.weight
    with torch.no_grad():
        for layer in decoder.layers:
            for linear in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                linear.weight.mul_(0.02)
        # So the position decides what is said, as layers add little to it.
        positions = decoder.embed_positions.weight
        positions.normal_()
        clock_end = N_PROMPT + shape.n_answer - 1
        positions[:clock_end, 0], positions[clock_end:, 0] = -8.0, 100.0
        # Logits lie 20 apart from each other (standard deviation): the likeliest is sure.
        out.normal_(0, 20 * shape.width**-0.5)
        out[ids["<|0.00|>"] :] *= 0.003
        out[:, 0] = 0.0
        out[end, 0] = 10.0
    network.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": ids[f"<|{code}|>"] for code in WHISPER_CODES},
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        alignment_heads=[list(head) for head in shape.alignment_heads],
        begin_suppress_tokens=[end],
        suppress_tokens=[],
        decoder_start_token_id=start,
        **ends,
    )
    network.save_pretrained(folder, max_shard_size="100GB")
    WhisperFeatureExtractor(feature_size=shape.mels).save_pretrained(folder)
    write_tokenizer(folder, vocabulary, shape.n_text)


def _write_w2v_bert(shape: W2vBertShape, folder: Path, device: str) -> None:
    import torch
    from transformers import (
        SeamlessM4TFeatureExtractor,
        Wav2Vec2BertConfig,
        Wav2Vec2BertForCTC,
        Wav2Vec2CTCTokenizer,
    )

    config = Wav2Vec2BertConfig(
        vocab_size=len(CTC_SYMBOLS),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        feature_projection_input_dim=160,
        add_adapter=True,
        output_hidden_size=shape.width,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    network = _random(Wav2Vec2BertForCTC, config, device)
    with torch.no_grad():
        network.lm_head.weight.normal_(0, 3)
    network.save_pretrained(folder, max_shard_size="100GB")
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    symbols = folder / "vocab.json"
    symbols.write_text(json.dumps({symbol: i for i, symbol in enumerate(CTC_SYMBOLS)}))
    none = {"bos_token": None, "eos_token": None, "unk_token": "<unk>", "pad_token": "<pad>"}
    Wav2Vec2CTCTokenizer(str(symbols), **none).save_pretrained(folder)


def _random(network: Any, config: Any, device: str) -> Any:
    """Make a network on the device, where random numbers are quick; a GPU's in half precision."""
    import torch

    torch.manual_seed(5)
    with torch.device(device):
        made = network(config)
    return made.half() if device == "cuda" else made


def windows(n: int, seconds: float, seed: int = 0) -> list[Any]:
    """Return noise, n items of float32 (n_samples,), as loud as speech; all of it is audible."""
    import numpy as np

    rng = np.random.default_rng(seed)
    n_samples = round(seconds * SAMPLE_RATE)
    sound = rng.standard_normal(n_samples + 997 * n, dtype=np.float32) * np.float32(0.1)
    return [sound[997 * i : 997 * i + n_samples] for i in range(n)]
