"""The cross-attention of a Whisper on torch: keys and values of an item are computed once.

The library computes them anew for every beam, and moves them in memory at each step, as beams
change places. All answers of an item attend to the same sound, so here they share its keys and
values: the first step computes them, generation and alignment use them.
"""

from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache

Cross = Any
"""A ``DynamicCache`` whose layers have ``keys`` and ``values``, each of shape (n_items, n_heads,
1500, size). The library declares other kinds of layers, too."""


class SharedKeys(EncoderDecoderCache):
    """The decoder's cache: self-attention of each answer, cross-attention of each item."""

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Follow the beams of a search, which stay within their items."""
        self.self_attention_cache.reorder_cache(beam_idx)


def new_cache(cross: Cross | None = None) -> SharedKeys:
    """Return the cache for a new text, with the keys and values of its items if these are known."""
    return SharedKeys(DynamicCache(), cross or DynamicCache())


def select_items(cross: Cross, items: list[int]) -> Cross:
    """Return the keys and values of some of the items."""
    chosen = DynamicCache()
    for i, layer in enumerate(cross.layers):
        chosen.update(layer.keys[items], layer.values[items], i)
    return chosen


def share_keys(network: Any) -> None:
    """Have a ``WhisperForConditionalGeneration`` take a cache with fewer items than answers.

    Cross-attention has no order, so the tokens of an item's answers are passed as those of one.
    """
    for index, layer in enumerate(network.model.decoder.layers):
        layer.encoder_attn.forward = _by_item(layer.encoder_attn.forward, index)


def _by_item(attend: Any, layer: int) -> Any:
    def attend_by_item(
        hidden: torch.Tensor, past_key_values: SharedKeys | None = None, **options: Any
    ) -> tuple[torch.Tensor, Any]:
        n_items = len(hidden)
        if past_key_values is not None and past_key_values.is_updated.get(layer):
            cross: Cross = past_key_values.cross_attention_cache
            n_items = len(cross.layers[layer].keys)
        by_item = hidden.view(n_items, -1, hidden.shape[-1])
        attended, weights = attend(by_item, past_key_values=past_key_values, **options)
        return attended.view(hidden.shape), weights

    return attend_by_item
