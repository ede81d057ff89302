"""Transducers of NVIDIA NeMo (Parakeet TDT, RNN-T), exported to ONNX, in ONNX Runtime.

onnx-asr computes NeMo's features. It decodes items one after another, a frame at a time; here all
items of a batch are decoded together (``greedy``), some frames ahead. NVIDIA's exporter leaves the
number of items and of frames open (NeMo's ``Exportable``: the axes of kind batch and time). A graph
that declares one item or one frame is given one at a time.

On a processor the encoder hears items one by one. Batches are no faster there, and one that is
quantised dynamically rounds all items of a batch to the largest value among them. On a GPU it hears
a batch at once, padded to the longest; NeMo's exports mask the padding.
"""

from collections.abc import Sequence
from importlib.metadata import version as installed_version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.infra.errors import ModelError
from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines.emissions import Emission, join_words, may_hold_words
from worker.engines.onnx_networks import HOP_SAMPLES, OnnxRuntime, read_config
from worker.engines.protocol import DecodeOptions, Device, EngineOf, Prepared
from worker.engines.transducer.greedy import (
    Encoded,
    Floats,
    Ints,
    Rules,
    States,
    Token,
    decode,
)

KINDS = {"nemo-conformer-tdt": True, "nemo-conformer-rnnt": False}
"""Values of ``model_type`` in config.json, and whether such networks emit durations."""
BLANK = "<blk>"
MOST_PER_FRAME = 10
"""Tokens at one frame, unless the configuration says otherwise."""
FRAMES_AHEAD = 4
"""Frames that the joint is asked about at once."""
CPU_BATCH, GPU_BATCH = 4, 16
_INTEGERS = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
"""NVIDIA's exports take the first; onnx-asr gives a graph the one that it declares."""


class _Features(NamedTuple):
    mel: Floats
    """Shape (n_bands, n_frames); frames past ``n_heard`` are padding."""
    n_heard: int
    language: str | None


class _Output(NamedTuple):
    tokens: list[Token]
    n_samples: int
    language: str | None


class OnnxTransducerEngine(EngineOf[_Features, _Output]):
    """Words with times and confidences from the tokens that are emitted greedily.

    A token of a TDT lasts as long as the network goes on after it, of an RNN-T one frame.
    """

    def __init__(self, model: Model, device: Device) -> None:
        """Load the pinned weights from this machine; nothing is downloaded.

        Raises:
            ModelError: the weights are missing, damaged, not those pinned or not a transducer's, or
                the device cannot be used.
        """
        import onnxruntime
        from onnx_asr.preprocessors.numpy_preprocessor import NemoPreprocessorNumpy

        folder, self.weights_digest = weights.pinned(model)
        config = read_config(model, folder)
        kind = config.get("model_type")
        if kind not in KINDS:
            raise ModelError(f"config.json of model '{model.id}': model_type is {kind!r}")
        self._frame_samples = HOP_SAMPLES * config["subsampling_factor"]
        self._runtime = OnnxRuntime(model, device)
        unloadable: tuple[type[Exception], ...] = (ValueError, LookupError, OSError)
        suffix = f".{model.quantization}" if model.quantization else ""
        try:
            self._encoder, decoder = (
                onnxruntime.InferenceSession(
                    folder / f"{name}-model{suffix}.onnx",
                    self._runtime.options,
                    self._runtime.providers,
                )
                for name in ("encoder", "decoder_joint")
            )
            self._texts, blank = _read_vocabulary(folder / "vocab.txt")
            self._preprocessor = NemoPreprocessorNumpy(f"nemo{config.get('features_size', 80)}")
            self._joint = _OnnxJoint(decoder)
            self._joint.check(len(self._texts), has_durations=KINDS[kind])
        except unloadable + self._runtime.errors as error:
            raise ModelError(f"model '{model.id}' cannot be loaded: {error}") from error
        self._rules = Rules(
            n_tokens=len(self._texts),
            blank=blank,
            has_durations=KINDS[kind],
            most_per_frame=config.get("max_tokens_per_step", MOST_PER_FRAME),
        )
        self.device: str = self._runtime.device_of(self._encoder)
        (signal,) = (each for each in self._encoder.get_inputs() if each.name == "audio_signal")
        takes_batches = self.device == "cuda" and not isinstance(signal.shape[0], int)
        self._encoded_at_once = GPU_BATCH if takes_batches else 1
        self.streams = self._runtime.streams(self.device)
        self.max_batch = GPU_BATCH if self.device == "cuda" else CPU_BATCH
        self.window_samples = round(model.window_s * SAMPLE_RATE)
        self.dtype = f"{model.quantization}_float32" if model.quantization else "float32"
        self.version = f"onnxruntime {installed_version('onnxruntime')}"

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[_Features] | Hypothesis:
        """Compute an item's features."""
        if not may_hold_words(samples):
            return Hypothesis((), options.language)
        (mel,), (n_heard,) = self._preprocessor(samples[None], np.array([len(samples)]))
        return Prepared(_Features(mel, n_heard, options.language), len(samples))

    def infer(self, batch: Sequence[Prepared[_Features]]) -> list[_Output | Prepared[_Features]]:
        """Encode items, and decode them together; the beam size is ignored."""
        with self._runtime.failures(self.device, self.version):
            encoded: list[Encoded] = []
            for at in range(0, len(batch), self._encoded_at_once):
                part = batch[at : at + self._encoded_at_once]
                encoded += self._encode([item.input for item in part])
            at_once, n_ahead = self._joint.most_items or self.max_batch, self._joint.n_ahead
            tokens: list[list[Token]] = []
            for at in range(0, len(batch), at_once):
                tokens += decode(self._joint, encoded[at : at + at_once], self._rules, n_ahead)
        return [
            _Output(emitted, item.n_samples, item.input.language)
            for emitted, item in zip(tokens, batch, strict=True)
        ]

    def finish(self, raw: _Output) -> Hypothesis:
        """Join the tokens to words."""
        emissions = [
            Emission(self._texts[token.symbol], token.frame, end, token.log_prob)
            for token, end in zip(raw.tokens, _ends(raw.tokens), strict=True)
            if self._texts[token.symbol]
        ]
        words = join_words(emissions, self._frame_samples, raw.n_samples)
        return Hypothesis(words, raw.language)

    def _encode(self, items: Sequence[_Features]) -> list[Encoded]:
        """Return the encoder's output of each item, without that of its padding."""
        mels = [item.mel for item in items]
        lengths = np.array([item.n_heard for item in items])
        longest = max(mel.shape[1] for mel in mels)
        padded = np.zeros((len(mels), mels[0].shape[0], longest), np.float32)
        for row, mel in zip(padded, mels, strict=True):
            row[:, : mel.shape[1]] = mel
        outputs, n_frames = self._encoder.run(
            ["outputs", "encoded_lengths"], {"audio_signal": padded, "length": lengths}
        )
        return [item.T[:n] for item, n in zip(outputs, n_frames, strict=True)]


class _OnnxJoint:
    """The exported prediction network and joint."""

    most_items: int | None
    """Items that the graph takes at once; None: as many as there are."""
    n_ahead: int
    """Frames that it is asked about at once."""

    def __init__(self, session: Any) -> None:
        """Read what the graph declares.

        Raises:
            LookupError, ValueError: these are not the inputs of such a network.
        """
        self._session = session
        inputs = {each.name: each for each in session.get_inputs()}
        n_items, _, n_frames = inputs["encoder_outputs"].shape
        n_layers, n_states, width = inputs["input_states_1"].shape
        self._size = int(n_layers), int(width)
        declared = [n for n in (n_items, n_states) if isinstance(n, int)]
        self.most_items = min(declared, default=None)
        self.n_ahead = n_frames if isinstance(n_frames, int) else FRAMES_AHEAD
        if self.most_items not in (None, 1):
            raise ValueError(f"its joint takes {self.most_items} items, neither one nor any number")
        self._target_type = _INTEGERS[inputs["targets"].type]
        self._length_type = _INTEGERS[inputs["target_length"].type]

    def check(self, n_tokens: int, *, has_durations: bool) -> None:
        """Compare the logits that the graph declares with the vocabulary.

        Raises:
            ValueError: there are fewer than tokens, or none beside them for durations.
        """
        (logits,) = (each for each in self._session.get_outputs() if each.name == "outputs")
        n_logits = logits.shape[-1]
        if isinstance(n_logits, int) and n_logits < n_tokens + has_durations:
            raise ValueError(f"{n_logits} logits, but {n_tokens} tokens in vocab.txt")

    def begin(self, n_items: int) -> States:
        """Return zeros."""
        n_layers, width = self._size
        first, second = np.zeros((2, n_layers, n_items, width), np.float32)
        return first, second

    def __call__(self, frames: Floats, last: Ints, states: States) -> tuple[Floats, States]:
        """Run the network; see ``greedy.Joint``."""
        logits, first, second = self._session.run(
            ["outputs", "output_states_1", "output_states_2"],
            {
                "encoder_outputs": frames.transpose(0, 2, 1),
                "targets": last[:, None].astype(self._target_type),
                "target_length": np.ones(len(last), self._length_type),
                "input_states_1": states[0],
                "input_states_2": states[1],
            },
        )
        return logits[:, :, 0], (first, second)


def _read_vocabulary(path: Path) -> tuple[list[str], int]:
    """Return the text of each token, and the blank's number.

    A space begins a word. Tokens in angle brackets, such as <unk>, have no text.

    Raises:
        ValueError: the file is damaged, or has no blank.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    pieces = [line.rsplit(" ", 1)[0] for line in lines]
    if [line.rsplit(" ", 1)[-1] for line in lines] != [*map(str, range(len(lines)))]:
        raise ValueError("vocab.txt must number its tokens from 0 on")
    texts = [
        "" if piece.startswith("<") and piece.endswith(">") else piece.replace("▁", " ")
        for piece in pieces
    ]
    return texts, pieces.index(BLANK)


def _ends(tokens: Sequence[Token]) -> list[int]:
    """Return the frame at which each token ends: no later than the next one begins."""
    ends = [token.frame + max(token.duration, 1) for token in tokens]
    for i, (_, following) in enumerate(pairwise(tokens)):
        ends[i] = min(ends[i], following.frame)
    return ends
