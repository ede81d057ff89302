"""A token-and-duration transducer on the conformer's encoder, exported as NeMo does.

The encoder is the conformer's, and stays as it is. A prediction network and a joint of 0.1 million
parameters are trained on what it makes of windows, each of which is encoded once.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tests.models.recipe.conformer import (
    BLANK,
    N_PIECES,
    SUBSAMPLING,
    WIDTH,
    Encoder,
    count_frames,
    describe,
    halve,
)
from tests.models.recipe.curriculum import LENGTHS, WARM_UP_STEPS
from tests.models.recipe.data import Clip, pick
from tests.models.recipe.features import HOP_SAMPLES, NemoFeatures, perturb
from tests.models.recipe.optimizers import make_optimizers
from tests.models.recipe.tdt_loss import transducer_loss
from tests.models.recipe.training import draw
from tests.models.recipe.windows import SAMPLE_RATE, Stage, Window, stack

log = logging.getLogger(__name__)

N_DURATIONS = 5
"""It goes on by 0 to 4 frames."""
STATE = 64
JOINT = 2 * WIDTH + 64
"""Units: to begin with, for what is heard and for its negative, and others."""
ENCODED = Stage(90, 16, LENGTHS, n_sentences=4, window_s=12.0, cut=True, gentle=True)
"""The windows that are encoded, and trained on in every epoch."""
N_EPOCHS, PEAK_RATE = 4, 3e-3
CLIP_STEP = 6
"""Every sixth sentence is enough for an encoder that was trained on all."""
MOST_NODES = 25_000
"""Pairs of a frame and a number of tokens in a batch, for each of which there are logits."""
CUT_PAUSE_S = 0.3
"""Half of such pauses end an item: short items make small lattices."""
FRAME_S = SUBSAMPLING * HOP_SAMPLES / SAMPLE_RATE


class TransducerEncoder(Encoder):
    """What is exported as encoder-model.onnx."""

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n, WIDTH, frames) and frames (n,) of (n, 80, 4 frames) and lengths (n,)."""
        return self.encode(audio_signal, length).transpose(1, 2), count_frames(length)


class Decoder(nn.Module):
    """Prediction network and joint, exported as decoder_joint-model.onnx."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(N_PIECES + 1, STATE, padding_idx=BLANK)
        self.predict = nn.LSTM(STATE, STATE)
        self.of_sound = nn.Linear(WIDTH, JOINT)
        self.of_text = nn.Linear(STATE, JOINT)
        self.head = nn.Linear(JOINT, N_PIECES + 1 + N_DURATIONS)

    def forward(
        self,
        encoder_outputs: Tensor,
        targets: Tensor,
        target_length: Tensor,
        input_states_1: Tensor,
        input_states_2: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits (n, frames, tokens, classes), ``target_length``, and the states after them.

        Args:
            encoder_outputs: shape (n, WIDTH, frames).
            targets: tokens emitted before, shape (n, tokens); BLANK at the beginning.
            target_length: shape (n,), handed through.
            input_states_1, input_states_2: of the LSTM, shape (1, n, STATE).
        """
        predicted, states = self.predict(
            self.embed(targets).transpose(0, 1), (input_states_1, input_states_2)
        )
        sound = self.of_sound(encoder_outputs.transpose(1, 2))[:, :, None]
        text = self.of_text(predicted.transpose(0, 1))[:, None]
        return self.head(functional.relu(sound + text)), target_length, *states


class Heard(NamedTuple):
    """What the encoder makes of a part of a window, shape (frames, WIDTH), and what is said."""

    encoded: Tensor
    tokens: list[int]


class Transducer(nn.Module):
    """What hears a conformer's pieces."""

    def __init__(self, pieces: Tokenizer, conformer: Path) -> None:
        """Take the encoder of an exported conformer, and have the joint begin with its last layer.

        Vectors and convolutions keep their names in the graph. Matrices have lost theirs and are
        transposed, but stand in the order in which they are used.
        """
        super().__init__()
        self.pieces = pieces
        self.encoder, self.decoder = TransducerEncoder(), Decoder()
        graph = onnx.load(conformer).graph
        stored = {
            each.name.removesuffix(".half"): onnx.numpy_helper.to_array(each).astype(np.float32)
            for each in graph.initializer
        }
        *matrices, head = (
            stored[node.input[1]]
            for node in graph.node
            if node.op_type in ("MatMul", "Gemm") and node.input[1] in stored
        )
        state = {name: stored[name] for name in self.encoder.state_dict() if name in stored}
        linears = ["project.weight"]
        for i in range(len(self.encoder.blocks)):
            inside = ("before.1", "before.3", "attention.project", "attention.out")
            inside += ("convolution.widen", "convolution.out", "after.1", "after.3")
            linears += [f"blocks.{i}.{name}.weight" for name in inside]
        state |= {name: matrix.T for name, matrix in zip(linears, matrices, strict=True)}
        self.encoder.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        self._hear_pieces(torch.tensor(head.T), torch.tensor(stored["head.bias"]))

    @torch.no_grad()
    def _hear_pieces(self, head: Tensor, bias: Tensor) -> None:
        """Have the joint name what a conformer's last layer names, whatever the text before."""
        decoder = self.decoder
        # max(x, 0) - max(-x, 0) is x.
        decoder.of_sound.weight[: 2 * WIDTH] = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
        decoder.of_sound.bias[: 2 * WIDTH] = 0.0
        decoder.of_text.weight[: 2 * WIDTH] = 0.0
        decoder.of_text.bias[: 2 * WIDTH] = 0.0
        decoder.head.weight[: N_PIECES + 1, : 2 * WIDTH] = torch.cat([head, -head], 1)
        decoder.head.bias[: N_PIECES + 1] = bias

    def loss(self, batch: Sequence[Heard]) -> Tensor:
        """Return the mean over items, per token."""
        encoded = pad_sequence([each.encoded for each in batch], batch_first=True)
        n_frames = torch.tensor([len(each.encoded) for each in batch])
        given = pad_sequence(
            [torch.tensor([BLANK, *each.tokens]) for each in batch], batch_first=True
        )
        nothing = torch.zeros(1, len(batch), STATE)
        logits, *_ = self.decoder(encoded.transpose(1, 2), given, n_frames, nothing, nothing)
        texts = [each.tokens for each in batch]
        losses = transducer_loss(logits, N_DURATIONS, n_frames, texts)
        return losses.sum() / sum(len(text) + 1 for text in texts)


@torch.no_grad()
def encode(model: Transducer, clips: Sequence[Clip], seed: int) -> list[Heard]:
    """Have the encoder hear windows, and part them where it is quiet."""
    rng = np.random.default_rng(seed)
    clips = clips[::CLIP_STEP]
    drawn = pick([clip for clip in clips if len(clip.text.split()) in ENCODED.lengths], rng)
    batches = draw(ENCODED, 1, drawn, rng)
    features, heard = NemoFeatures(), []
    for _ in range(ENCODED.n_steps):
        windows = next(batches)
        mel, lengths = features(*stack(windows))
        mel = perturb(mel.transpose(1, 2), gently=True).transpose(1, 2)
        encoded, n_frames = model.encoder(mel, lengths)
        for window, item, n in zip(windows, encoded, n_frames, strict=True):
            heard += _part(window, item.T[:n], model.pieces, rng)
    return heard


def _part(
    window: Window, encoded: Tensor, pieces: Tokenizer, rng: np.random.Generator
) -> Iterator[Heard]:
    start, said = 0, []
    for i, sentence in enumerate(window.sentences):
        said.append(sentence.text)
        for following in window.sentences[i + 1 : i + 2]:
            pause_s = following.start_s - sentence.end_s
            if pause_s >= CUT_PAUSE_S and rng.random() < 0.5:
                end = round((sentence.end_s + pause_s / 2) / FRAME_S)
                yield Heard(encoded[start:end].clone(), pieces.encode(" ".join(said)).ids)
                start, said = end, []
    yield Heard(encoded[start:].clone(), pieces.encode(" ".join(said)).ids)


def train(model: Transducer, heard: Sequence[Heard], seed: int) -> None:
    """Train prediction network and joint; the batches stay, in another order in each epoch."""
    batches = _batches(heard)
    rng = np.random.default_rng(seed)
    optimizers = make_optimizers(model.decoder, [model.decoder.head])
    n_steps, step, started = N_EPOCHS * len(batches), 0, time.monotonic()
    for epoch in range(N_EPOCHS):
        losses = []
        for i in rng.permutation(len(batches)):
            rate = min((step + 1) / WARM_UP_STEPS, 0.5 + 0.5 * math.cos(math.pi * step / n_steps))
            for group in (group for each in optimizers for group in each.param_groups):
                group["lr"] = PEAK_RATE * rate
            loss = model.loss(batches[i])
            model.decoder.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            losses.append(loss.item())
            if step % 50 == 0:
                elapsed_s = time.monotonic() - started
                mean = np.mean(losses[-50:])
                log.info(f"epoch {epoch}, step {step}/{n_steps} {elapsed_s:.0f} s: loss {mean:.3f}")


def _batches(heard: Sequence[Heard]) -> list[list[Heard]]:
    """Put items of about equal length together, so that little of a batch is padding."""
    batches: list[list[Heard]] = [[]]
    longest = 0
    for item in sorted(heard, key=lambda item: (len(item.encoded), len(item.tokens))):
        longest = max(longest, len(item.tokens) + 1)
        if batches[-1] and (len(batches[-1]) + 1) * len(item.encoded) * longest > MOST_NODES:
            batches.append([])
            longest = len(item.tokens) + 1
        batches[-1].append(item)
    return batches


def save(model: Transducer, folder: Path) -> None:
    """Write the folder that ``onnx_asr.load_model("nemo-conformer-tdt", folder)`` loads."""
    describe(model.pieces, "nemo-conformer-tdt", folder)
    dynamic = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        model.encoder.eval(),
        (torch.zeros(2, 80, 300), torch.tensor([300, 200])),
        folder / "encoder-model.onnx",
        input_names=["audio_signal", "length"],
        output_names=["outputs", "encoded_lengths"],
        dynamic_shapes={"audio_signal": {0: dynamic, 2: dynamic}, "length": {0: dynamic}},
        dynamo=True,
        external_data=False,
    )
    states = torch.zeros(1, 2, STATE)
    targets = torch.zeros(2, 1, dtype=torch.int32)
    torch.onnx.export(
        model.decoder.eval(),
        (torch.zeros(2, WIDTH, 7), targets, targets[:, 0], states, states),
        folder / "decoder_joint-model.onnx",
        input_names=[
            "encoder_outputs",
            "targets",
            "target_length",
            "input_states_1",
            "input_states_2",
        ],
        output_names=["outputs", "prednet_lengths", "output_states_1", "output_states_2"],
        dynamic_shapes={
            "encoder_outputs": {0: dynamic, 2: dynamic},
            "targets": {0: dynamic},  # of one token: the exporter unrolls the LSTM
            "target_length": {0: dynamic},
            "input_states_1": {1: dynamic},
            "input_states_2": {1: dynamic},
        },
        dynamo=True,
        external_data=False,
    )
    halve(folder / "encoder-model.onnx")
    halve(folder / "decoder_joint-model.onnx")
