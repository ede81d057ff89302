"""A conformer of 0.9 million parameters with CTC over word pieces, exported as NeMo does."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from tests.models.recipe.ctc import SENTENCES, ctc_loss
from tests.models.recipe.curriculum import LENGTHS, Curriculum
from tests.models.recipe.features import NemoFeatures, perturb
from tests.models.recipe.training import Trainee
from tests.models.recipe.windows import Stage, Window, stack

WIDTH, HEADS, LAYERS, KERNEL = 96, 4, 4, 15
CHANNELS = 32
"""Of the two convolutions that each halve the frame rate, from 10 ms to 40 ms."""
SUBSAMPLING = 4
N_PIECES = 192
CURRICULUM = Curriculum(
    2e-3,
    (
        *SENTENCES,
        Stage(1_900, 20, LENGTHS, n_sentences=4, window_s=12.0, cut=True),
        Stage(900, 20, LENGTHS, n_sentences=4, window_s=12.0, cut=True, gentle=True),
    ),
)
LEAST_HALVED = 1_000
"""Values in a matrix that is worth storing in half the space."""
BLANK = N_PIECES


def make_pieces(words: Sequence[str]) -> Tokenizer:
    """Learn word pieces from the list; '▁' marks a word's beginning."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=N_PIECES, special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


class FeedForward(nn.Sequential):
    """Half a step: the caller adds half of it."""

    def __init__(self) -> None:
        super().__init__(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.SiLU(),
            nn.Linear(4 * WIDTH, WIDTH),
        )


class Attention(nn.Module):
    """Self-attention with rotary positions, so that any length will do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, heard: Tensor) -> Tensor:
        projected = self.project(self.norm(hidden)).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = _rotate(query), _rotate(key)
        scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
        scores = scores.masked_fill(~heard[:, None, None, :], -1e4)
        mixed = scores.softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


def _rotate(vectors: Tensor) -> Tensor:
    """Turn pairs of (..., frames, size) by angles that grow with the frame's number."""
    half = vectors.shape[-1] // 2
    speeds = 10_000 ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(vectors.shape[-2], dtype=torch.float32)[:, None] * speeds
    first, second = vectors[..., :half], vectors[..., half:]
    return torch.cat(
        [
            first * angles.cos() - second * angles.sin(),
            first * angles.sin() + second * angles.cos(),
        ],
        dim=-1,
    )


class Convolution(nn.Module):
    """Gated depthwise convolution over time."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 2 * WIDTH)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH)
        self.depthwise_norm = nn.LayerNorm(WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, heard: Tensor) -> Tensor:
        gated = functional.glu(self.widen(self.norm(hidden)), dim=-1) * heard[..., None]
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        return self.out(functional.silu(self.depthwise_norm(mixed)))


class Block(nn.Module):
    """Conformer's sandwich: half a feed-forward, attention, convolution, the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = FeedForward(), FeedForward()
        self.attention, self.convolution = Attention(), Convolution()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, hidden: Tensor, heard: Tensor) -> Tensor:
        hidden = hidden + 0.5 * self.before(hidden)
        hidden = hidden + self.attention(hidden, heard)
        hidden = hidden + self.convolution(hidden, heard)
        return self.norm(hidden + 0.5 * self.after(hidden))


class Encoder(nn.Module):
    """NeMo's features and their lengths to hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.halve = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1)
        self.halve_again = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1)
        self.project = nn.Linear(CHANNELS * 80 // SUBSAMPLING, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))

    def encode(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        """Return (n, frames, WIDTH) of (n, 80, 4 frames) and lengths (n,)."""
        image = functional.silu(self.halve(audio_signal.transpose(1, 2)[:, None]))
        image = functional.silu(self.halve_again(image))
        hidden = self.project(image.transpose(1, 2).flatten(2))
        heard = torch.arange(hidden.shape[1]) < count_frames(length)[:, None]
        for block in self.blocks:
            hidden = block(hidden, heard)
        return hidden


class CtcEncoder(Encoder):
    """What is exported: NeMo's features and their lengths to log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, N_PIECES + 1)

    def forward(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        """Return (n, frames, pieces + blank) of (n, 80, 4 frames) and lengths (n,)."""
        return self.head(self.encode(audio_signal, length)).float().log_softmax(-1)


def count_frames(length: Tensor) -> Tensor:
    """Return how many frames remain of so many 10 ms frames."""
    return (length - 1) // SUBSAMPLING + 1


class Conformer(Trainee):
    """Audio to a loss; ``encoder`` is what is kept."""

    def __init__(self, pieces: Tokenizer) -> None:
        super().__init__()
        self.pieces = pieces
        self.features, self.encoder = NemoFeatures(), CtcEncoder()

    @property
    def heads(self) -> Sequence[nn.Module]:
        return [self.encoder.head]

    def loss(self, windows: Sequence[Window], stage: Stage, rng: np.random.Generator) -> Tensor:
        features, n_frames = self.features(*stack(windows))
        features = perturb(features.transpose(1, 2), gently=stage.gentle).transpose(1, 2)
        log_probs = self.encoder(features, n_frames)
        tokens = [self.pieces.encode(window.text).ids for window in windows]
        return ctc_loss(log_probs, count_frames(n_frames), tokens, BLANK)


def save(model: Conformer, folder: Path) -> None:
    """Write the folder that ``onnx_asr.load_model("nemo-conformer-ctc", folder)`` loads."""
    describe(model.pieces, "nemo-conformer-ctc", folder)
    frames = {2: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        model.encoder.eval(),
        (torch.zeros(2, 80, 300), torch.tensor([300, 200])),
        folder / "model.onnx",
        input_names=["audio_signal", "length"],
        output_names=["logprobs"],
        dynamic_shapes={
            "audio_signal": {0: torch.export.Dim.DYNAMIC} | frames,
            "length": {0: torch.export.Dim.DYNAMIC},
        },
        dynamo=True,
        external_data=False,
    )
    halve(folder / "model.onnx")


def describe(pieces: Tokenizer, kind: str, folder: Path) -> None:
    """Make the folder, and write what stands beside the network: its symbols and its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [pieces.id_to_token(i) for i in range(N_PIECES)] + ["<blk>"]
    lines = "".join(f"{name} {i}\n" for i, name in enumerate(names))
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    config = {"model_type": kind, "features_size": 80, "subsampling_factor": SUBSAMPLING}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def halve(path: Path) -> None:
    """Keep an ONNX model's matrices as float16; the graph widens them again when it is loaded."""
    model = onnx.load(path)
    widened = []
    for stored in model.graph.initializer:
        if stored.data_type != onnx.TensorProto.FLOAT or math.prod(stored.dims) < LEAST_HALVED:
            continue
        half = onnx.numpy_helper.to_array(stored).astype(np.float16)
        name = stored.name
        stored.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        widened.append(
            onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*widened, *model.graph.node]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    for node in model.graph.node:
        del node.metadata_props[:]  # the exporter's own stack traces name its machine's folders
    onnx.checker.check_model(model)
    onnx.save(model, path)
