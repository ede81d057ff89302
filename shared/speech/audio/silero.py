"""The Silero network: the probability of speech, window by window.

It comes from https://github.com/snakers4/silero-vad (v6, MIT), and its ONNX file is in the
faster-whisper wheel. That file convolves each window by itself, over the four frames that it has.
The weights are the same here, but each layer is one product of matrices over all windows: a third
of the time.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from shared.infra.onnx_format import Graph, read_tensors
from shared.speech.audio.samples import Samples

if TYPE_CHECKING:
    import onnxruntime

WINDOW_SAMPLES = 512
"""A window of 32 ms has one score. The network takes no other size at 16 kHz."""
_CONTEXT_SAMPLES = 64
"""It hears these samples of the window before as well."""
_HOP_SAMPLES = 128
_FRAME_SAMPLES = 2 * _HOP_SAMPLES
_N_BANDS = _FRAME_SAMPLES // 2 + 1
_N_STATES = 128
"""What the network remembers: as many numbers of two kinds."""


class SileroNetwork:
    """The network, with what it remembers of one stream of windows."""

    def __init__(self) -> None:
        """Load the model, unless this process has it.

        Raises:
            ModelError: onnxruntime or the package that carries the model is not installed, or it
                carries another model.
        """
        self._session = _session()
        self._context = np.zeros(_CONTEXT_SAMPLES, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the windows before, apart from the last one's end."""
        self._h = self._c = np.zeros((1, 1, _N_STATES), np.float32)

    def __call__(self, windows: Samples) -> npt.NDArray[np.float64]:
        """Return probabilities of speech: (n_windows, WINDOW_SAMPLES) -> (n_windows,)."""
        tails = windows[:, -_CONTEXT_SAMPLES:]
        contexts = np.concatenate([self._context[np.newaxis], tails[:-1]])
        self._context = tails[-1]
        inputs = {"windows": np.hstack([contexts, windows]), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = self._session.run(None, inputs)
        return np.asarray(probabilities, np.float64)


@cache
def _session() -> "onnxruntime.InferenceSession":
    """Load the model, once per process.

    Raises:
        ModelError: as ``SileroNetwork`` says.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("The Silero VAD needs onnxruntime, which is not installed.") from error
    # Importing faster_whisper would load CTranslate2 as well.
    wheel = find_spec("faster_whisper")
    if wheel is None or wheel.origin is None:
        raise ModelError("The Silero VAD needs the faster-whisper package for its model file.")
    file = Path(wheel.origin).parent / "assets" / "silero_vad_v6.onnx"
    try:
        network = write_network(read_tensors(file.read_bytes()))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError("The faster-whisper package has no Silero VAD that is known.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


def write_network(weights: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """Return the network as an ONNX file.

    It takes ``windows``, (n_windows, _CONTEXT_SAMPLES + WINDOW_SAMPLES), and the LSTM's ``h`` and
    ``c``, (1, 1, _N_STATES); it returns ``probabilities``, (n_windows,), and the new ``hn`` and
    ``cn``.

    Raises:
        KeyError: there is no such weight.
    """
    graph = Graph("silero")
    number = graph.constant

    def reshaped(value: str, *shape: int) -> str:
        return graph.add("Reshape", value, number(shape))

    def frames(value: str, start: int, end: int) -> str:
        return graph.add("Slice", value, number([start]), number([end]), number([1]))

    def side_by_side(*values: str) -> str:
        return graph.add("Concat", *values, axis=2)

    def layer(index: int, value: str, taps: slice = slice(None)) -> str:
        """Add a convolution and its ReLU: ``value`` has the frames of its taps side by side."""
        name = f"encoder.conv_layers.{index}"
        kernel = weights[f"{name}.weight"][:, :, taps]
        matrix = kernel.transpose(2, 1, 0).reshape(-1, len(kernel))
        product = graph.add("MatMul", value, number(matrix))
        return graph.add("Relu", graph.add("Add", product, number(weights[f"{name}.bias"])))

    # The last frame ends 64 samples after the window: it is mirrored there.
    mirrored = graph.add("Pad", "windows", number([0, 0, 0, 64]), mode="reflect")
    hops = reshaped(mirrored, -1, 5, _HOP_SAMPLES)
    framed = side_by_side(frames(hops, 0, 4), frames(hops, 1, 5))
    basis = weights["encoder.feature_extractor.forward_basis_buffer"][:, 0].T
    real, imaginary = (
        graph.add("MatMul", framed, number(part))
        for part in (basis[:, :_N_BANDS], basis[:, _N_BANDS:])
    )
    power = graph.add("Add", graph.add("Mul", real, real), graph.add("Mul", imaginary, imaginary))
    spectrum = graph.add("Sqrt", power)

    # Three taps, a frame apart: 4 frames in, 4 out.
    padded = graph.add("Pad", spectrum, number([0, 1, 0, 0, 1, 0]))
    hidden = layer(0, side_by_side(*(frames(padded, at, at + 4) for at in range(3))))
    # Every second frame: 4 in, 2 out. The frame after the last is met by no tap.
    padded = graph.add("Pad", hidden, number([0, 1, 0, 0, 0, 0]))
    triples = [reshaped(frames(padded, at, at + 3), -1, 1, 3 * 128) for at in (0, 2)]
    hidden = layer(1, graph.add("Concat", *triples, axis=1))
    # Two frames in, one out, and one in, one out: the other taps meet nothing.
    hidden = layer(2, reshaped(hidden, -1, 2 * 64), slice(1, 3))
    hidden = layer(3, hidden, slice(1, 2))

    lstm = [number(weights[f"onnx::LSTM_{index}"]) for index in (209, 210, 211)]
    told, h, c = graph.add_of_several(
        "LSTM", 3, reshaped(hidden, -1, 1, 128), *lstm, "", "h", "c", hidden_size=_N_STATES
    )
    told = graph.add("Relu", reshaped(told, -1, _N_STATES))
    logits = graph.add(
        "Add",
        graph.add("MatMul", told, number(weights["decoder.conv1d.weight"][0])),
        number(weights["decoder.conv1d.bias"]),
    )
    probabilities = graph.add("Sigmoid", reshaped(logits, -1))
    state = (1, 1, _N_STATES)
    return graph.to_bytes(
        {"windows": ("n_windows", _CONTEXT_SAMPLES + WINDOW_SAMPLES), "h": state, "c": state},
        {"probabilities": (probabilities, ("n_windows",)), "hn": (h, state), "cn": (c, state)},
    )
