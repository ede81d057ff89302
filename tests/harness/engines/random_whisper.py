"""A Whisper that any machine can have: real architecture and files, tiny size, random weights."""

import json
from collections.abc import Collection
from pathlib import Path

import ctranslate2
import numpy as np
from tokenizers import pre_tokenizers

from bench.gpu.shapes import special_tokens, timestamp_tokens, write_tokenizer

N_TEXT_TOKENS = 1_000
WIDTH, HEADS, MELS, AUDIO_FRAMES, MAX_TOKENS = 32, 2, 80, 1_500, 448


def write_random_whisper(folder: Path, languages: Collection[str]) -> None:
    """Write all files of a CTranslate2 Whisper that speaks these languages (ISO 639 codes)."""
    vocabulary = _vocabulary(languages)
    _write_weights(folder, vocabulary, n_languages=len(languages))
    write_tokenizer(folder, vocabulary, N_TEXT_TOKENS)


def _text_tokens() -> list[str]:
    """All bytes, made-up words that begin with a space ('Ġ'), and the empty token, by which
    CTranslate2 tells multilingual vocabularies."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"Ġw{i:03d}" for i in range(N_TEXT_TOKENS - len(letters) - 1)]
    return [*letters, *words, ""]


def _vocabulary(languages: Collection[str]) -> list[str]:
    codes = ["jw" if code == "jv" else code for code in sorted(languages)]
    return _text_tokens() + special_tokens(codes) + timestamp_tokens()


def _write_weights(folder: Path, vocabulary: list[str], n_languages: int) -> None:
    rng = np.random.default_rng(3)

    def noise(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    def set_linear(spec: object, n_out: int, n_in: int) -> None:
        spec.weight, spec.bias = noise(n_out, n_in), np.zeros(n_out, np.float32)

    def set_norm(spec: object) -> None:
        spec.gamma, spec.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def set_layer(layer: object) -> None:
        attentions = [layer.self_attention, getattr(layer, "attention", None)]
        for attention in filter(None, attentions):
            set_norm(attention.layer_norm)
            # Self-attention projects queries, keys and values at once; cross-attention apart.
            sizes = {2: (3, 1), 3: (1, 2, 1)}[len(attention.linear)]
            for linear, size in zip(attention.linear, sizes, strict=True):
                set_linear(linear, size * WIDTH, WIDTH)
        set_norm(layer.ffn.layer_norm)
        set_linear(layer.ffn.linear_0, 4 * WIDTH, WIDTH)
        set_linear(layer.ffn.linear_1, WIDTH, 4 * WIDTH)

    spec = ctranslate2.specs.WhisperSpec(1, HEADS, 1, HEADS)
    for conv, n_in in ((spec.encoder.conv1, MELS), (spec.encoder.conv2, WIDTH)):
        conv.weight, conv.bias = noise(WIDTH, n_in, 3), np.zeros(WIDTH, np.float32)
    spec.encoder.position_encodings.encodings = noise(AUDIO_FRAMES, WIDTH)
    spec.decoder.position_encodings.encodings = noise(MAX_TOKENS, WIDTH)
    spec.decoder.embeddings.weight = noise(len(vocabulary), WIDTH)
    # Large logits: the model is sure of its garbage, so that no fallback samples at random. The
    # first coordinate is the decoder's clock: from the twentieth token on it says "end of text",
    # and not before.
    spec.decoder.projection.weight = 30 * noise(len(vocabulary), WIDTH)
    spec.decoder.position_encodings.encodings[:20, 0] = -8.0
    spec.decoder.position_encodings.encodings[20:, 0] = 100.0
    spec.decoder.projection.weight[:, 0] = 0.0
    spec.decoder.projection.weight[N_TEXT_TOKENS, 0] = 1_000.0
    for part in (spec.encoder, spec.decoder):
        set_norm(part.layer_norm)
        for layer in part.layer:
            set_layer(layer)
    first_language = N_TEXT_TOKENS + 2
    spec.config.lang_ids = list(range(first_language, first_language + n_languages))
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [N_TEXT_TOKENS]
    spec.config.alignment_heads = [(0, head) for head in range(HEADS)]
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.save(str(folder))
    config = json.loads((folder / "config.json").read_text())
    assert config["alignment_heads"]


def write_random_transformers_whisper(folder: Path, languages: Collection[str]) -> None:
    """Write all files of such a Whisper as transformers has them, in two layers.

    It names no alignment heads, as fine-tuned models often do not.
    """
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    vocabulary = _vocabulary(languages)
    ids = {token: i for i, token in enumerate(vocabulary)}
    end = ids["<|endoftext|>"]
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(3)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(vocabulary),
            num_mel_bins=MELS,
            d_model=WIDTH,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=4 * WIDTH,
            decoder_ffn_dim=4 * WIDTH,
            max_source_positions=AUDIO_FRAMES,
            max_target_positions=MAX_TOKENS,
            init_std=WIDTH**-0.5,
            tie_word_embeddings=False,
            decoder_start_token_id=ids["<|startoftranscript|>"],
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **ends,
        )
    )
    with torch.no_grad():
        # As above: sure of its garbage, and silent from the twentieth token on. Positions count
        # for much, so that it seldom repeats itself, and timestamps for little: it says words.
        model.proj_out.weight *= 100
        model.proj_out.weight[ids["<|0.00|>"] :] *= 0.003
        model.model.decoder.embed_positions.weight *= 3
        model.proj_out.weight[:, 0] = 0.0
        model.proj_out.weight[end, 0] = 1_000.0
        model.model.decoder.embed_positions.weight[:20, 0] = -8.0
        model.model.decoder.embed_positions.weight[20:, 0] = 100.0
    first_language = ids["<|startoftranscript|>"] + 1
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={
            vocabulary[i]: i for i in range(first_language, first_language + len(languages))
        },
        task_to_id={task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        begin_suppress_tokens=[end],
        suppress_tokens=[],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        **ends,
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=MELS).save_pretrained(folder)
    write_tokenizer(folder, vocabulary, N_TEXT_TOKENS)


def convert_to_ctranslate2(folder: Path, target: Path) -> None:
    """Write the same weights for CTranslate2."""
    converter = ctranslate2.converters.TransformersConverter(
        str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]
    )
    converter.convert(str(target))
