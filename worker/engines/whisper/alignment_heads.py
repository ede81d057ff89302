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

    from worker.engines.whisper.cross_attention import Cross

Queries = dict[int, "Tensor"]
"""By layer: the queries of its cross-attention, shape (n_items, n_tokens, width)."""


class AlignmentHeads:
    """The alignment heads that a model names, and the frames that they attend to."""

    def __init__(self, network: Any) -> None:
        """Take a ``WhisperForConditionalGeneration`` with its own generation settings."""
        self._network = network
        named = getattr(network.generation_config, "alignment_heads", None)
        self._watching = threading.Lock()
        self._heads = [(layer, head) for layer, head in named or _upper_half(network.config)]

    @contextmanager
    def watched(self) -> Iterator[Queries]:
        """Record the queries of the heads' cross-attention while the block runs the decoder.

        Other threads may run the decoder meanwhile, but only one can watch at a time.

        Fast attention does not return its weights, so ``weigh`` computes those of the heads.
        """
        queries: Queries = {}
        hooks = []
        with self._watching:
            for layer in {layer for layer, _ in self._heads}:
                attention = self._network.model.decoder.layers[layer].encoder_attn
                note = partial(_note, queries, layer, threading.get_ident())
                hooks.append(attention.q_proj.register_forward_hook(note))
            try:
                yield queries
            finally:
                for hook in hooks:
                    hook.remove()

    def weigh(
        self, queries: Queries, cross: "Cross", item: int, said: slice, n_frames: int
    ) -> "npt.NDArray[np.floating]":
        """Return the heads' attention from an item's tokens to its frames, (n_tokens, n_frames).

        Weights are normalised over the tokens, smoothed over the frames by a median filter, and
        averaged over the heads, as in OpenAI's ``timing.py``.

        Args:
            queries: what ``watched`` has recorded.
            cross: the keys that these queries met.
            item: its index.
            said: the positions of its tokens.
            n_frames: its frames, of 20 ms, that hold audio.
        """
        import torch
        from torch.nn import functional

        config = self._network.config
        size = config.d_model // config.decoder_attention_heads
        heads = []
        for layer, head in self._heads:
            columns = slice(head * size, (head + 1) * size)
            asked = queries[layer][item, said, columns].float()
            keys = cross.layers[layer].keys[item, head, :n_frames].float()
            heads.append((asked @ keys.T * size**-0.5).softmax(-1))
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
    queries: Queries,
    layer: int,
    watcher: int,
    _module: object,
    _inputs: object,
    output: "Tensor",
) -> None:
    if threading.get_ident() == watcher:
        queries[layer] = output
