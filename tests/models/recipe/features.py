"""The three families' log-mel features, in torch; evaluation uses the libraries' own."""

import torch
from torch import Tensor, nn
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

HOP_SAMPLES = 160
"""10 ms between frames in all three."""
HIDDEN_SPANS_PER_FRAME = 0.006
DITHER = 1 / 32768
"""Noise that w2v-BERT hears beneath all sound, as the engine adds it."""


class WhisperFeatures(nn.Module):
    """Whisper's: (n, samples) -> (n, 80, frames), floored 80 dB below the window's loudest."""

    filters: Tensor
    taper: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank = torch.tensor(WhisperFeatureExtractor(feature_size=80).mel_filters)
        self.register_buffer("filters", bank.float().T.contiguous(), persistent=False)
        self.register_buffer("taper", torch.hann_window(400), persistent=False)

    @torch.autocast("cpu", enabled=False)
    def forward(self, audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, 400, HOP_SAMPLES, window=self.taper, return_complex=True)
        power = _power(spectrum[..., :-1])
        mel = (self.filters @ power).clamp(min=1e-10).log10()
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8)
        return (mel + 4) / 4


class W2vBertFeatures(nn.Module):
    """w2v-BERT's: Kaldi's filter bank at 16-bit scale, over dither, two frames to a step.

    Takes (n, samples) and lengths (n,), gives (n, steps, 160) and steps (n,).
    """

    filters: Tensor
    waves: Tensor
    """All that is done to a frame up to its spectrum is linear, and faster as one matrix.

    Shape (400, 514): from samples to the real parts of 257 bins, then the imaginary ones.
    """

    def __init__(self) -> None:
        super().__init__()
        library = SeamlessM4TFeatureExtractor()
        self.register_buffer("filters", torch.tensor(library.mel_filters).float(), persistent=False)
        samples = 32768 * torch.eye(400, dtype=torch.float64)
        samples -= samples.mean(-1, keepdim=True)
        before = torch.cat([samples[:, :1], samples[:, :-1]], dim=-1)
        waves = torch.fft.rfft((samples - 0.97 * before) * torch.tensor(library.window), 512)
        self.register_buffer("waves", torch.cat([waves.real, waves.imag], 1).float(), False)

    @torch.autocast("cpu", enabled=False)
    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        audio = audio + DITHER * torch.randn_like(audio)
        real, imaginary = (audio.unfold(1, 400, HOP_SAMPLES) @ self.waves).chunk(2, dim=-1)
        power = real * real + imaginary * imaginary
        mel = (power @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
        mel = _normalise(mel, 1 + (lengths - 400) // HOP_SAMPLES, in_root=1e-7)
        mel = mel[:, : mel.shape[1] // 2 * 2]
        return mel.unflatten(1, (-1, 2)).flatten(2), (1 + (lengths - 400) // HOP_SAMPLES) // 2


class NemoFeatures(nn.Module):
    """NeMo's: (n, samples) and lengths (n,) -> (n, 80, frames) and frames (n,)."""

    filters: Tensor
    taper: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank = mel_filter_bank(257, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
        self.register_buffer("filters", torch.tensor(bank).float(), persistent=False)
        self.register_buffer("taper", torch.hann_window(400, periodic=False), persistent=False)

    @torch.autocast("cpu", enabled=False)
    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        before = nn.functional.pad(audio, (1, 0))[:, :-1]
        heard = torch.arange(audio.shape[1]) < lengths[:, None]
        spectrum = torch.stft(
            (audio - 0.97 * before) * heard,
            n_fft=512,
            hop_length=HOP_SAMPLES,
            win_length=400,
            window=self.taper,
            pad_mode="constant",
            return_complex=True,
        )
        power = _power(spectrum).transpose(1, 2)
        n_frames = lengths // HOP_SAMPLES
        mel = _normalise((power @ self.filters + 2**-24).log(), n_frames, beside_root=1e-5)
        return mel[:, : int(n_frames.max())].transpose(1, 2), n_frames


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real * spectrum.real + spectrum.imag * spectrum.imag


def _normalise(
    mel: Tensor, n_frames: Tensor, in_root: float = 0.0, beside_root: float = 0.0
) -> Tensor:
    """Give each band of each item zero mean and unit variance; padding becomes zero."""
    heard = (torch.arange(mel.shape[1]) < n_frames[:, None])[..., None]
    mean = (mel * heard).sum(1, keepdim=True) / n_frames[:, None, None]
    centred = (mel - mean) * heard
    variance = centred.square().sum(1, keepdim=True) / (n_frames[:, None, None] - 1)
    return centred / ((variance + in_root).sqrt() + beside_root)


def perturb(mel: Tensor, *, gently: bool) -> Tensor:
    """Change (n, frames, bands) of zero mean and unit variance as training sees them.

    Every band gets another mean and variance, as it would in a window cut elsewhere, and some spans
    of 40 to 160 ms become zero, so that a word is known by all of its sounds. After SpecAugment
    (Park and others, 2019). Gently: a third of that, and everything is heard.
    """
    n, n_frames, n_bands = mel.shape
    share = 1 / 3 if gently else 1.0
    offset = share * 0.15 * torch.randn(n, 1, n_bands)
    gain = 1 + share * 0.1 * torch.randn(n, 1, n_bands)
    mel = mel * gain + offset
    if gently:
        return mel
    frame = torch.arange(n_frames)
    n_spans = max(1, round(n_frames * HIDDEN_SPANS_PER_FRAME))
    start = torch.randint(0, n_frames, (n, n_spans, 1))
    length = torch.randint(4, 17, (n, n_spans, 1))
    hidden = ((frame >= start) & (frame < start + length)).any(1)
    return mel.masked_fill(hidden[..., None], 0.0)
