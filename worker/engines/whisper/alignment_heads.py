"""The attention heads of a Whisper on torch that follow the speech, recorded while it reads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

Seen = dict[tuple[int, str], "Tensor"]
"""(layer, 'q_proj' or 'k_proj') -> what it gave, shape (n_items, n_tokens or 1500, width)."""


class AlignmentHeads:
    """The alignment heads that a model names, and the frames that they attend to."""

    def __init__(self, network: Any) -> None:
        """Take a ``WhisperForConditionalGeneration`` with its own generation settings."""
        self._network = network
        named = getattr(network.generation_config, "alignment_heads", None)
        self._watching = threading.Lock()
        self._heads = [(layer, head) for layer, head in named or _upper_half(network.config)]

    @contextmanager
    def watched(self) -> Iterator[Seen]:
        """Record queries and keys of the heads' cross-attention while the block runs the decoder.

        Other threads may run the decoder meanwhile, and wait for each other where they watch.

        Fast attention does not materialise its weights, so ``weigh`` computes those of the heads.
        """
        seen: Seen = {}
        hooks = []
        with self._watching:
            for layer in {layer for layer, _ in self._heads}:
                attention = self._network.model.decoder.layers[layer].encoder_attn
                for name in ("q_proj", "k_proj"):
                    note = partial(_note, seen, (layer, name), threading.get_ident())
                    hooks.append(getattr(attention, name).register_forward_hook(note))
            try:
                yield seen
            finally:
                for hook in hooks:
                    hook.remove()

    def weigh(
        self, seen: Seen, item: int, said: slice, n_frames: int
    ) -> "npt.NDArray[np.floating]":
        """Return the heads' attention from an item's tokens to its frames, (n_tokens, n_frames).

        Weights are normalised over the tokens, smoothed over the frames by a median filter, and
        averaged over the heads, as in OpenAI's ``timing.py``.

        ``said`` are the positions of the tokens in what ``watched`` has seen, and ``n_frames`` are
        the item's frames, of 20 ms, that hold audio.
        """
        import torch
        from torch.nn import functional

        config = self._network.config
        size = config.d_model // config.decoder_attention_heads
        heads = []
        for layer, head in self._heads:
            columns = slice(head * size, (head + 1) * size)
            queries = seen[layer, "q_proj"][item, said, columns].float()
            keys = seen[layer, "k_proj"][item, :n_frames, columns].float()
            heads.append((queries @ keys.T * size**-0.5).softmax(-1))
        weights = torch.stack(heads)
        spread, mean = torch.std_mean(weights, dim=1, keepdim=True, correction=0)
        weights = (weights - mean) / spread.clamp_min(1e-9)
        beside = config.median_filter_width // 2
        if n_frames > beside:
            padded = functional.pad(weights, (beside, beside), mode="reflect")
            weights = padded.unfold(-1, 2 * beside + 1, 1).median(-1).values
        score: npt.NDArray[np.floating] = weights.mean(dim=0).cpu().numpy()
        return score


def _upper_half(config: Any) -> Iterator[tuple[int, int]]:
    """Yield (layer, head) of all heads of the upper half, which is OpenAI's default too."""
    layers = range(config.decoder_layers // 2, config.decoder_layers)
    return product(layers, range(config.decoder_attention_heads))


def _note(
    seen: Seen,
    key: tuple[int, str],
    watcher: int,
    _module: object,
    _inputs: object,
    output: "Tensor",
) -> None:
    if threading.get_ident() == watcher:
        seen[key] = output
