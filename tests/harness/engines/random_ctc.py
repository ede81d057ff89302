"""wav2vec 2.0 and w2v-BERT that any machine can have: real classes, tiny sizes, random weights."""

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.models import weight_files as files
from shared.models.catalogue import Model
from shared.models.weight_files import digest

SYMBOLS = ["<pad>", "<unk>", "|", "'", *string.ascii_lowercase]
SIZES = {
    "vocab_size": len(SYMBOLS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
CONVOLUTIONS = {"conv_dim": (32, 32, 32), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 8)}
"""Three layers instead of seven, with the same 20 ms from frame to frame."""


def write_w2v_bert(folder: Path) -> None:
    """w2v-BERT 2.0 with the adapter that fine-tunings of it have: 40 ms a frame."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertForCTC

    config = Wav2Vec2BertConfig(
        **SIZES, feature_projection_input_dim=160, add_adapter=True, output_hidden_size=32
    )
    _write(folder, Wav2Vec2BertForCTC, config, SeamlessM4TFeatureExtractor())


def write_wav2vec2_base(folder: Path) -> None:
    """wav2vec 2.0 as the base model is: group norm over time, trained without an attention mask."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        **SIZES, **CONVOLUTIONS, feat_extract_norm="group", num_conv_pos_embeddings=16
    )
    features = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    _write(folder, Wav2Vec2ForCTC, config, features)


def write_wav2vec2_large(folder: Path) -> None:
    """wav2vec 2.0 as the large models are: layer norm, trained with an attention mask."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        **SIZES,
        **CONVOLUTIONS,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
    )
    features = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    _write(folder, Wav2Vec2ForCTC, config, features)


WRITERS: dict[str, Callable[[Path], None]] = {
    "random-w2v-bert": write_w2v_bert,
    "random-wav2vec2-base": write_wav2vec2_base,
    "random-wav2vec2-large": write_wav2vec2_large,
}


def catalogue_entry(model_id: str, folder: Path, engine: str = "transformers-ctc") -> Model:
    """Return the entry of weights in a folder, pinned to what is there now."""
    names = files.present(engine, folder)
    assert names is not None
    return Model(
        id=model_id,
        description="Random weights.",
        engine=engine,
        source=f"file:{folder}",
        revision=digest(folder, names),
        languages=frozenset({"en"}),
        window_s=20.0,
        vad="silero",
        size_bytes=0,
    )


def _write(folder: Path, network: Any, config: Any, features: Any) -> None:
    import torch
    from transformers import Wav2Vec2CTCTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    # Sure of its garbage, so that rounding does not decide between two symbols, and fond of spaces.
    torch.manual_seed(5)
    model = network(config)
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 3)
        model.lm_head.bias[SYMBOLS.index("|")] = 20
    model.save_pretrained(folder)
    features.save_pretrained(folder)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({symbol: i for i, symbol in enumerate(SYMBOLS)}))
    special = {"bos_token": None, "eos_token": None, "unk_token": "<unk>", "pad_token": "<pad>"}
    Wav2Vec2CTCTokenizer(str(vocabulary), **special).save_pretrained(folder)
