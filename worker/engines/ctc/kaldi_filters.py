"""The features of w2v-BERT: Kaldi's logarithmic filter bank, on the device, for a whole batch.

The library's extractor computes the same in Python, frame by frame and item by item: 50 ms of a CPU
core for 20 s of audio, while a GPU waits.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.speech.audio.samples import Samples
from worker.engines.torch_models import stack

if TYPE_CHECKING:
    from torch import Tensor

FRAME_SAMPLES, HOP_SAMPLES, N_FFT = 400, 160, 512
"""25 ms every 10 ms."""
FULL_SCALE = 1 << 15
"""Kaldi's samples are 16-bit integers."""
PREEMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
"""Least power of a band, so that its logarithm is finite."""
VARIANCE_FLOOR = 1e-7


class KaldiFilters:
    """Features as ``transformers.SeamlessM4TFeatureExtractor`` computes them."""

    def __init__(self, extractor: Any, device: str) -> None:
        """Take window, filters and sizes of a ``SeamlessM4TFeatureExtractor``."""
        import torch

        self._device = device
        self._stride: int = extractor.stride
        self._padding: float = extractor.padding_value
        # Double precision, as in the library: 16-bit audio spans 90 dB, and its spectrum more.
        self._window = torch.from_numpy(np.asarray(extractor.window, np.float64)).to(device)
        self._filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float64)).to(device)

    def __call__(self, batch: Sequence[Samples]) -> "dict[str, Tensor]":
        """Return the network's inputs, on the device, for items of at least a frame.

        These are ``input_features``, float32 of shape (n_items, n_steps, stride * n_bands), each
        band of an item normalised to zero mean and unit variance, and ``attention_mask``, int64 of
        shape (n_items, n_steps), 1 where a step lies wholly within the item.
        """
        import torch

        n_frames = [1 + (len(samples) - FRAME_SAMPLES) // HOP_SAMPLES for samples in batch]
        n_padded = -(-max(n_frames) // self._stride) * self._stride
        n_samples = (n_padded - 1) * HOP_SAMPLES + FRAME_SAMPLES
        bands = self._bands(stack(batch, n_samples, self._device).double() * FULL_SCALE)
        own = torch.tensor(n_frames, device=self._device)
        mask = torch.arange(n_padded, device=self._device) < own[:, None]
        features = _normalise(bands, mask).masked_fill_(~mask[..., None], self._padding)
        return {
            "input_features": features.reshape(len(batch), n_padded // self._stride, -1).float(),
            "attention_mask": mask[:, self._stride - 1 :: self._stride].long(),
        }

    def _bands(self, waves: "Tensor") -> "Tensor":
        """Return logarithms of bands, (n_items, n_samples) -> (n_items, n_frames, n_bands)."""
        import torch

        frames = waves.unfold(1, FRAME_SAMPLES, HOP_SAMPLES)
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = torch.cat((frames[..., :1], frames[..., :-1]), dim=2)
        frames = (frames - PREEMPHASIS * before) * self._window
        power = torch.fft.rfft(frames, N_FFT).abs().square()
        bands: Tensor = (power @ self._filters).clamp_min(FLOOR).log()
        return bands


def _normalise(bands: "Tensor", mask: "Tensor") -> "Tensor":
    """Normalise each band to zero mean and unit variance over an item's own frames."""
    own = mask[..., None]
    n = own.sum(dim=1, keepdim=True)
    centred = bands - (bands * own).sum(dim=1, keepdim=True) / n
    variance = (centred * own).square().sum(dim=1, keepdim=True) / (n - 1)
    normal: Tensor = centred / (variance + VARIANCE_FLOOR).sqrt()
    return normal
