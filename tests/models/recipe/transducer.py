"""A token-and-duration transducer made of the conformer, exported as NeMo does.

Nothing is trained. The encoder is the conformer's, and the joint has its last layer, so it names
the piece that the conformer names. The prediction network remembers the last piece, and the joint
does not name that one again: while it is heard, the blank is. So a piece that lasts two frames is
emitted once, and the network is an RNN-T as well, if its durations are left out. It goes on by one
frame after every piece.

Two equal pieces in a row are heard as one. The words of the list have none.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from tests.models.recipe.conformer import (
    BLANK,
    N_PIECES,
    WIDTH,
    Encoder,
    count_frames,
    describe,
    halve,
)

N_DURATIONS, DURATION = 5, 1
"""A TDT goes on by 0 to 4 frames; this one always by one."""
STATE = 64
"""A piece is remembered as so many random signs."""
JOINT = 2 * WIDTH + 2 * N_PIECES
"""Units for what is heard, for its negative, for each piece as the last one, and for each piece as
the last one that is still heard."""
SURE = 10.0
"""What opens or shuts a gate, and decides between durations."""
ALIKE = 0.75
"""Signs of different pieces never agree so well."""
SUPPRESSED = 100.0
"""By how much the last piece becomes less likely."""
HEARD, MORE_BLANK = 8.0, 2.0
"""The logit from which on the last piece is still heard, and how much of it the blank gets."""


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


class Transducer(nn.Module):
    """What hears a conformer's pieces."""

    def __init__(self, pieces: Tokenizer, conformer: Path) -> None:
        """Take the weights of an exported conformer.

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
        *matrices, last = (
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
        self._remember_the_last_piece()
        self._name_another(torch.tensor(last.T), torch.tensor(stored["head.bias"]))

    @torch.no_grad()
    def _remember_the_last_piece(self) -> None:
        """Have the LSTM's state be the signs of the piece that it was given last."""
        rng = np.random.default_rng(1)
        signs = torch.tensor(rng.choice([-1.0, 1.0], (N_PIECES, STATE)), dtype=torch.float32)
        self.decoder.embed.weight[:BLANK] = signs
        lstm = self.decoder.predict
        for parameter in lstm.parameters():
            parameter.zero_()
        lets_in, forgets, content, shows = range(4)
        lstm.weight_ih_l0[content * STATE : (content + 1) * STATE] = SURE * torch.eye(STATE)
        for gate, bias in ((lets_in, SURE), (forgets, -SURE), (shows, SURE)):
            lstm.bias_ih_l0[gate * STATE : (gate + 1) * STATE] = bias

    @torch.no_grad()
    def _name_another(self, head: Tensor, bias: Tensor) -> None:
        """Have the joint name what a conformer's last layer names, but not the last piece."""
        decoder = self.decoder
        for linear in (decoder.of_sound, decoder.of_text, decoder.head):
            linear.weight.zero_()
            linear.bias.zero_()
        # max(x, 0) - max(-x, 0) is x.
        decoder.of_sound.weight[: 2 * WIDTH] = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
        decoder.head.weight[: N_PIECES + 1, : 2 * WIDTH] = torch.cat([head, -head], 1)
        decoder.head.bias[: N_PIECES + 1] = bias
        agrees = decoder.embed.weight[:BLANK] / (STATE * np.tanh(1.0))
        last, heard = 2 * WIDTH, 2 * WIDTH + N_PIECES
        decoder.of_text.weight[last:heard] = agrees
        decoder.of_text.bias[last:heard] = -ALIKE
        suppress = -SUPPRESSED / (1 - ALIKE) * torch.eye(N_PIECES)
        decoder.head.weight[:N_PIECES, last:heard] = suppress
        decoder.of_sound.weight[heard:] = head[:N_PIECES]
        decoder.of_sound.bias[heard:] = bias[:N_PIECES] - HEARD
        decoder.of_text.weight[heard:] = agrees * SUPPRESSED / (1 - ALIKE)
        decoder.of_text.bias[heard:] = -SUPPRESSED / (1 - ALIKE)
        decoder.head.weight[BLANK, heard:] = MORE_BLANK
        decoder.head.bias[N_PIECES + 1 + DURATION] = SURE


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
