"""The features of a Whisper on torch: logarithmic mel spectra, on the device, for a whole batch.

The library's extractor computes the same, but pads items one by one in numpy, and returns spectra
in main memory.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.speech.audio import Samples

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-10
"""Least power of a band, so that its logarithm is finite."""
RANGE = 8.0
"""Powers of ten below a window's loudest band to which quieter bands are raised."""


class LogMel:
    """Features as ``transformers.WhisperFeatureExtractor`` computes them."""

    def __init__(self, extractor: Any, device: str) -> None:
        """Take window, hop and filters of the library's extractor.

        Args:
            extractor: a ``WhisperFeatureExtractor``.
            device: 'cpu' or 'cuda'.
        """
        import torch

        self._device = device
        self._n_samples: int = extractor.n_samples
        self._n_fft: int = extractor.n_fft
        self._hop_samples: int = extractor.hop_length
        self._window = torch.hann_window(self._n_fft, device=device)
        filters = torch.from_numpy(np.asarray(extractor.mel_filters, dtype=np.float32))
        self._filters = filters.T.contiguous().to(device)

    def __call__(self, batch: Sequence[Samples]) -> "Tensor":
        """Return float32 of shape (n_items, n_bands, n_frames) on the device.

        Args:
            batch: items of shape (n_samples,), cut or filled up with zeros to a window.
        """
        import torch

        # A GPU copies pinned memory while this thread goes on.
        on_gpu = self._device == "cuda"
        waves = torch.zeros(len(batch), self._n_samples, pin_memory=on_gpu)
        for row, samples in zip(waves.numpy(), batch, strict=True):
            heard = samples[: self._n_samples]
            row[: len(heard)] = heard
        waves = waves.to(self._device, non_blocking=on_gpu)
        spectrum = torch.stft(
            waves, self._n_fft, self._hop_samples, window=self._window, return_complex=True
        )
        # The last frame is centred on the window's end.
        power = spectrum[..., :-1].abs().square().contiguous()
        bands = (self._filters @ power).clamp_min(FLOOR).log10()
        loudest = bands.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(bands, loudest - RANGE) + 4.0) / 4.0
