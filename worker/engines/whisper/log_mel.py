"""The features of a Whisper on torch: logarithmic mel spectra, on the device, for a whole batch.

The library's extractor computes the same, but pads items one by one in numpy and returns spectra in
main memory.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.speech.audio.samples import Samples
from worker.engines.torch_models import stack

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-10
"""Least power of a band, so that its logarithm is finite."""
RANGE = 8.0
"""Powers of ten below a window's loudest band to which quieter bands are raised."""


class LogMel:
    """Features as ``transformers.WhisperFeatureExtractor`` computes them."""

    def __init__(self, extractor: Any, device: str) -> None:
        """Take window, hop and filters of a ``WhisperFeatureExtractor``."""
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

        Items, of shape (n_samples,), are cut or padded with zeros to a window.
        """
        import torch

        waves = stack(batch, self._n_samples, self._device)
        spectrum = torch.stft(
            waves, self._n_fft, self._hop_samples, window=self._window, return_complex=True
        )
        # The last frame is centred on the window's end.
        power = spectrum[..., :-1].abs().square().contiguous()
        bands = (self._filters @ power).clamp_min(FLOOR).log10()
        loudest = bands.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(bands, loudest - RANGE) + 4.0) / 4.0
