"""CTranslate2's Whisper weights turned back into those of transformers.

The library's converter only goes the other way. ``model.bin`` is a header, then each variable's
name, shape, type and raw array, then aliases (``ctranslate2/specs/model_spec.py`` writes it).
"""

import json
import shutil
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

BINARY_VERSION = 6
DTYPES = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16"}
"""NumPy's types by CTranslate2's numbers."""
LAYER_PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
"""Parts of a layer that are stored alike, by CTranslate2's names."""

Arrays = dict[str, np.ndarray]


def convert_to_transformers(source: Path, target: Path) -> None:
    """Write a CTranslate2 Whisper's folder as one of transformers, in the same number format.

    The model must be one of OpenAI's: 30 s windows, special tokens in their order, weights that
    are not quantized.
    """
    variables = read_variables(source / "model.bin")
    tensors = {
        f"model.{name}": array
        for part in ("encoder", "decoder")
        for name, array in _transformer(part, variables).items()
    }
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    ids = dict(tokenizer["model"]["vocab"])
    ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    _write_network(target, variables, tensors, ids, settings)
    shutil.copy(source / "tokenizer.json", target)
    (target / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "WhisperTokenizer"})
    )


def read_variables(path: Path) -> Arrays:
    """Return the arrays of a ``model.bin`` by name; aliases are left out."""
    with path.open("rb") as file:
        version = _unpack(file, "I")
        kind, _revision = _string(file), _unpack(file, "I")
        assert (version, kind) == (BINARY_VERSION, "WhisperSpec")
        return dict(_variable(file) for _ in range(_unpack(file, "I")))


def _variable(file: BinaryIO) -> tuple[str, np.ndarray]:
    name = _string(file)
    shape = [_unpack(file, "I") for _ in range(_unpack(file, "B"))]
    dtype, n_bytes = DTYPES[_unpack(file, "B")], _unpack(file, "I")
    return name, np.frombuffer(file.read(n_bytes), dtype).reshape(shape)


def _unpack(file: BinaryIO, kind: str) -> int:
    number: int
    (number,) = struct.unpack(f"={kind}", file.read(struct.calcsize(kind)))
    return number


def _string(file: BinaryIO) -> str:
    """Read a string: its length as 16 bits, then its bytes with a zero at the end."""
    return file.read(_unpack(file, "H"))[:-1].decode()


def _n_layers(part: str, variables: Arrays) -> int:
    return len({name.split("/")[1] for name in variables if name.startswith(f"{part}/layer_")}) - 1


def _transformer(part: str, variables: Arrays) -> Arrays:
    """Return the tensors of 'encoder' or 'decoder' by transformers' names below ``model``."""
    tensors: Arrays = {
        f"{part}.embed_positions.weight": variables[f"{part}/position_encodings/encodings"],
        **_pair(part, "layer_norm", f"{part}/layer_norm", variables),
    }
    if part == "encoder":
        for conv in ("conv1", "conv2"):
            tensors |= _pair(part, conv, f"{part}/{conv}", variables)
    else:
        tensors[f"{part}.embed_tokens.weight"] = variables[f"{part}/embeddings/weight"]
    for number in range(_n_layers(part, variables)):
        tensors |= _layer(f"{part}/layer_{number}", f"{part}.layers.{number}", variables)
    return tensors


def _layer(source: str, target: str, variables: Arrays) -> Arrays:
    tensors: Arrays = {}
    for name, renamed in LAYER_PARTS.items():
        if f"{source}/{name}/gamma" in variables or f"{source}/{name}/weight" in variables:
            tensors |= _pair(target, renamed, f"{source}/{name}", variables)
    tensors |= _attention(f"{source}/self_attention", f"{target}.self_attn", "qkv o", variables)
    if f"{source}/attention/linear_0/weight" in variables:
        tensors |= _attention(f"{source}/attention", f"{target}.encoder_attn", "q kv o", variables)
    return tensors


def _attention(source: str, target: str, layout: str, variables: Arrays) -> Arrays:
    """Split the fused projections, one word of ``layout`` for each ``linear_N``."""
    tensors: Arrays = {}
    for number, letters in enumerate(layout.split()):
        weights = np.split(variables[f"{source}/linear_{number}/weight"], len(letters))
        biases = np.split(variables[f"{source}/linear_{number}/bias"], len(letters))
        for letter, weight, bias in zip(letters, weights, biases, strict=True):
            projection = f"{target}.{'out' if letter == 'o' else letter}_proj"
            tensors[f"{projection}.weight"] = weight
            if letter == "k":  # Whisper's keys have no bias; the fused one is padded with zeros
                assert not bias.any()
            else:
                tensors[f"{projection}.bias"] = bias
    return tensors


def _pair(prefix: str, name: str, source: str, variables: Arrays) -> Arrays:
    """Return weight and bias of a linear layer, a convolution or a norm (gamma and beta)."""
    weight, bias = ("gamma", "beta") if f"{source}/gamma" in variables else ("weight", "bias")
    return {
        f"{prefix}.{name}.weight": variables[f"{source}/{weight}"],
        f"{prefix}.{name}.bias": variables[f"{source}/{bias}"],
    }


def _write_network(
    folder: Path,
    variables: Arrays,
    tensors: Arrays,
    ids: dict[str, int],
    settings: dict[str, Any],
) -> None:
    """Write weights, configurations and the feature extractor's settings."""
    from safetensors.numpy import save_file
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

    embeddings = variables["decoder/embeddings/weight"]
    mels = variables["encoder/conv1/weight"].shape[1]
    multilingual = len(embeddings) > 51_864  # OpenAI's English models have one token less
    shape = {
        f"{part}_{key}": number
        for part in ("encoder", "decoder")
        for key, number in (
            ("layers", _n_layers(part, variables)),
            ("attention_heads", int(variables[f"{part}/num_heads"])),
            ("ffn_dim", len(variables[f"{part}/layer_0/ffn/linear_0/bias"])),
        )
    }
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = WhisperConfig(
        vocab_size=len(embeddings),
        num_mel_bins=mels,
        d_model=embeddings.shape[1],
        max_source_positions=len(variables["encoder/position_encodings/encodings"]),
        max_target_positions=len(variables["decoder/position_encodings/encodings"]),
        decoder_start_token_id=start,
        architectures=["WhisperForConditionalGeneration"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **shape,
        **ends,
    )
    config.dtype = str(embeddings.dtype)
    languages = {token: i for token, i in ids.items() if i in set(settings["lang_ids"])}
    spoken = {
        "lang_to_id": languages,
        "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
    }
    generation = GenerationConfig(
        is_multilingual=multilingual,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        max_length=448,
        max_initial_timestamp_index=50,
        return_timestamps=False,
        decoder_start_token_id=start,
        **(spoken if multilingual else {}),
        **ends,
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    config.save_pretrained(folder)
    generation.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
