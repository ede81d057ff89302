"""A trained Whisper as the files that transformers and CTranslate2 load."""

import json
import logging
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from transformers import (
    GenerationConfig,
    WhisperFeatureExtractor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from tests.models.recipe.data import Clip, pick
from tests.models.recipe.tokens import Vocabulary
from tests.models.recipe.whisper import LATEST_FIRST_TIMESTAMP_S, MELS, Whisper
from tests.models.recipe.windows import Sentence, Stage, fill_window, stack

log = logging.getLogger(__name__)

N_ALIGNMENT_WINDOWS = 24
MOST_ALIGNMENT_HEADS = 3


def save(trainee: Whisper, clips: Sequence[Clip], folder: Path) -> None:
    """Write the folder that ``WhisperForConditionalGeneration`` and ``AutoProcessor`` load."""
    vocabulary = trainee.vocabulary
    trainee.model.generation_config = _generation_config(
        vocabulary, find_alignment_heads(trainee, clips)
    )
    trainee.model.half().save_pretrained(folder)
    _tokenizer(vocabulary).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=MELS).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def convert(folder: Path, target: Path) -> None:
    """Write the int8 model that CTranslate2 and faster-whisper load."""
    converter = ctranslate2.converters.TransformersConverter(
        str(folder), copy_files=["tokenizer.json", "preprocessor_config.json"]
    )
    converter.convert(str(target), quantization="int8", force=True)
    for file in target.iterdir():
        file.chmod(0o644)


def find_alignment_heads(trainee: Whisper, clips: Sequence[Clip]) -> list[list[int]]:
    """Return the (layer, head) pairs whose attention follows the speech best.

    Of windows with several sentences it is known when each is spoken. A head scores by how much of
    its attention stays within the sentence of the token to come, times how steadily it moves on.
    """
    rng = np.random.default_rng(0)
    vocabulary, stage = trainee.vocabulary, Stage(0, 1, (9,), n_sentences=3, window_s=12.0)
    drawn = pick([clip for clip in clips if len(clip.text.split()) == 9], rng)
    model = trainee.model
    model.set_attn_implementation("eager")
    config = model.config
    heads = list(product(range(config.decoder_layers), range(config.decoder_attention_heads)))
    scores: dict[tuple[int, int], list[float]] = {head: [] for head in heads}
    windows = (fill_window(stage, drawn, rng) for _ in range(4 * N_ALIGNMENT_WINDOWS))
    spoken = islice((w for w in windows if w.sentences), N_ALIGNMENT_WINDOWS)
    for window in spoken:
        prompt = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
        given = [vocabulary.id(token) for token in prompt]
        spans = []
        for sentence in window.sentences:
            text = vocabulary.encode(sentence.text)
            spans.append((sentence, len(given) - 1, len(given) - 1 + len(text)))
            given += text
        with torch.no_grad():
            attentions = model(
                encoder_outputs=(trainee.encode(stack([window])[0]),),
                decoder_input_ids=torch.tensor([given]),
                output_attentions=True,
            ).cross_attentions
        for layer, head in heads:
            attention = attentions[layer][0, head].numpy()
            scores[layer, head] += [_follows(attention[a:b], s) for s, a, b in spans]
    model.set_attn_implementation("sdpa")
    means = {head: float(np.mean(values)) for head, values in scores.items()}
    best = sorted(means, key=lambda head: -means[head])
    log.info(f"alignment: { {head: round(means[head], 2) for head in best} }")
    kept = [head for head in best[:MOST_ALIGNMENT_HEADS] if means[head] > 0.8 * means[best[0]]]
    return [list(head) for head in sorted(kept)]


def _follows(attention: np.ndarray, sentence: Sentence) -> float:
    """Score one head on one sentence: attention has shape (tokens, 20 ms frames)."""
    first, last = round(sentence.start_s * 50), round(sentence.end_s * 50)
    within = float(attention[:, first:last].sum(1).mean())
    centres = attention @ np.arange(attention.shape[1]) / attention.sum(1)
    steadiness = np.corrcoef(centres, np.arange(len(centres)))[0, 1]
    return within * max(float(np.nan_to_num(steadiness)), 0.0)


def _generation_config(
    vocabulary: Vocabulary, alignment_heads: list[list[int]]
) -> GenerationConfig:
    ids = vocabulary.id
    never = ["<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"]
    never += ["<|startofprev|>", "<|nospeech|>"]
    return GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": ids(f"<|{code}|>") for code in LANGUAGES},
        task_to_id={"transcribe": ids("<|transcribe|>"), "translate": ids("<|translate|>")},
        no_timestamps_token_id=ids("<|notimestamps|>"),
        prev_sot_token_id=ids("<|startofprev|>"),
        max_initial_timestamp_index=round(50 * LATEST_FIRST_TIMESTAMP_S),
        alignment_heads=alignment_heads,
        suppress_tokens=[ids(token) for token in never],
        # Not the end of text, as Whisper's own has it: the model may answer nothing at once.
        begin_suppress_tokens=[ids("Ġ")],
        bos_token_id=vocabulary.end,
        eos_token_id=vocabulary.end,
        pad_token_id=vocabulary.end,
        decoder_start_token_id=vocabulary.start,
        max_length=448,
        return_timestamps=False,
    )


def _tokenizer(vocabulary: Vocabulary) -> WhisperTokenizer:
    learned = json.loads(vocabulary.tokenizer.to_str())["model"]
    added = [token for _, token in sorted(vocabulary.tokenizer.get_added_tokens_decoder().items())]
    special = [token.content for token in added if token.special]
    tokenizer = WhisperTokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        additional_special_tokens=special[1:],  # the first, the end of text, is there by default
    )
    tokenizer.add_tokens([token for token in added if not token.special])
    return tokenizer
