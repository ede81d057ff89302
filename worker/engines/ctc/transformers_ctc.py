"""wav2vec 2.0 and w2v-BERT with CTC, through transformers and torch.

Batches are padded to their longest item. Networks that were trained with an attention mask (all
w2v-BERTs, the large wav2vec 2.0) ignore padding. Those trained without one (wav2vec 2.0 base, whose
first layer normalises over the whole length) do not, so their items run one by one. The feature
extractor's ``return_attention_mask`` tells which kind a network is.

The library has one leak. Many fine-tuned w2v-BERTs halve their frame rate by an adapter, whose
convolutions read beyond an item's end. A single item has zeros there, so padding is set to zero.
Items of networks with other adapters run one by one.

w2v-BERT's features are logarithms of Kaldi's filter bank, without Kaldi's dither and without its
energy floor; Kaldi expects one of the two. Digital silence then lies far below all speech. Features
are normalised over the item, so the share of silence would change the features of words. Therefore
noise as loud as Kaldi's dither is added to the audio of w2v-BERTs.
"""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio import Samples
from shared.speech.chunks import SAMPLE_RATE, Hypothesis
from worker.engines.ctc import words as ctc
from worker.engines.ctc.kaldi_filters import KaldiFilters
from worker.engines.protocol import DecodeOptions, Device
from worker.engines.torch_models import choose_device, load_pretrained, torch_failures

if TYPE_CHECKING:
    import torch

DITHER = 1 / 32_768
"""Standard deviation of the noise: one step of 16-bit audio, Kaldi's default."""
NOISE_SAMPLES = 30 * SAMPLE_RATE
"""Length of the noise that is kept, so that it is not drawn for each item; few are longer."""
GPU_BATCH = 16
"""Items of 20 s: less than 2 GB of attention scores in the largest of these networks."""
CPU_BATCH = 4
"""On one core, 4 items of 15 s took a network of 24 million parameters 1.6 s together, 2.8 s one by
one."""


class TransformersCtcEngine:
    """Words with times and confidences from the best path."""

    def __init__(self, model: Model, device: Device, dtype: str) -> None:
        """Load the pinned weights from this machine; no code of the repository is run.

        Raises:
            ModelError: the weights are missing, damaged, not those pinned or not a CTC network's,
                or the device or dtype cannot be used; see ``choose_device``.
            DeviceOutOfMemory, EngineFailed: the device cannot take it.
        """
        from transformers import (
            AutoFeatureExtractor,
            AutoModelForCTC,
            SeamlessM4TFeatureExtractor,
            Wav2Vec2CTCTokenizer,
        )

        folder, self.weights_digest = weights.pinned(model)
        self.device, self.dtype = choose_device(model, device, dtype)
        self.version = f"transformers {installed_version('transformers')}"
        # Without its last layer, a network would output random words.
        classes = AutoModelForCTC, AutoFeatureExtractor, Wav2Vec2CTCTokenizer
        self._model, self._features, tokenizer = load_pretrained(
            model, folder, self.dtype, classes, needed="lm_head"
        )
        with torch_failures(self.device, self.version):
            self._model.to(self.device).eval()
        self._symbols = _symbols(tokenizer, self._model.config.vocab_size)
        self._blank: int = self._model.config.pad_token_id
        self._n_steps: torch.Tensor | None = None
        self._filters: KaldiFilters | None = None
        if isinstance(self._features, SeamlessM4TFeatureExtractor):
            self._filters = KaldiFilters(self._features, self.device)
        self._masks: bool = self._features.return_attention_mask and self._close_adapter()
        self._frame_samples = self._measure_stride()
        self.max_batch = 1
        if self._masks:
            self.max_batch = GPU_BATCH if self.device == "cuda" else CPU_BATCH

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return the words of each item, decoded greedily; the beam size is ignored."""
        audible = [i for i, samples in enumerate(batch) if ctc.may_hold_words(samples)]
        at_once = max(1, len(audible)) if self._masks else 1
        hypotheses = [Hypothesis((), options.language) for _ in batch]
        with torch_failures(self.device, self.version):
            for at in range(0, len(audible), at_once):
                run = audible[at : at + at_once]
                for i, log_probs in zip(run, self._infer([batch[i] for i in run]), strict=True):
                    path = ctc.best_path(log_probs, self._symbols, self._blank)
                    words = ctc.join_words(path, self._frame_samples, len(batch[i]))
                    hypotheses[i] = Hypothesis(words, options.language)
        return hypotheses

    def _infer(self, items: Sequence[Samples]) -> list[ctc.LogProbs]:
        """Return the log-probabilities of each item's frames, without those of its padding."""
        import torch

        inputs = self._prepare(items)
        with torch.inference_mode():
            on_device = {
                name: tensor.to(
                    self.device, self._model.dtype if tensor.is_floating_point() else None
                )
                for name, tensor in inputs.items()
            }
            if self._masks:
                self._n_steps = on_device["attention_mask"].sum(-1)
            log_probs = self._model(**on_device).logits.float().log_softmax(-1).cpu().numpy()
        if not self._masks:
            return list(log_probs)
        return [item[:n] for item, n in zip(log_probs, self._count_frames(inputs), strict=True)]

    def _close_adapter(self) -> bool:
        """Keep padding out of an adapter; return whether items can be padded to a batch."""
        config = self._model.config
        if not getattr(config, "add_adapter", False):
            return True
        if config.model_type != "wav2vec2-bert" or config.num_adapter_layers != 1:
            return False
        (layer,) = self._model.base_model.adapter.layers
        for convolution in (layer.residual_conv, layer.self_attn_conv):
            convolution.register_forward_pre_hook(self._zero_padding)
        return True

    def _zero_padding(
        self, _convolution: "torch.nn.Module", inputs: "tuple[torch.Tensor]"
    ) -> "tuple[torch.Tensor]":
        """Set the padding of (n_items, width, n_steps) to zero."""
        import torch

        (hidden,) = inputs
        assert self._n_steps is not None
        padding = torch.arange(hidden.shape[-1], device=hidden.device) >= self._n_steps[:, None]
        return (hidden.masked_fill(padding[:, None], 0.0),)

    def _prepare(self, items: Sequence[Samples]) -> "dict[str, torch.Tensor]":
        if self._filters is not None:
            features = self._filters([_dither(samples) for samples in items])
            return features if self._masks else {"input_features": features["input_features"]}
        inputs = self._features(
            [np.asarray(samples) for samples in items],
            sampling_rate=SAMPLE_RATE,
            padding=True,
            return_attention_mask=self._masks,
            return_tensors="pt",
        )
        return dict(inputs)

    def _count_frames(self, inputs: "dict[str, torch.Tensor]") -> list[int]:
        """Return the number of frames that the network outputs for each item."""
        if "attention_mask" in inputs:
            n_inputs = inputs["attention_mask"].sum(-1)
        else:
            (features,) = inputs.values()
            n_inputs = features.new_tensor([features.shape[1]])
        counts: list[int] = self._model._get_feat_extract_output_lengths(n_inputs.long()).tolist()
        return counts

    def _measure_stride(self) -> int:
        """Return the samples from one frame to the next, measured on audio of two lengths."""
        lengths = (10 * SAMPLE_RATE, 20 * SAMPLE_RATE)
        shorter, longer = (
            self._count_frames(self._prepare([np.zeros(n, dtype=np.float32)]))[0] for n in lengths
        )
        return round((lengths[1] - lengths[0]) / (longer - shorter))


def _dither(samples: Samples) -> Samples:
    """Add noise to an item, (n_samples,); always the same, so equal audio has equal words."""
    noise = _noise(-(-len(samples) // NOISE_SAMPLES))
    return samples + noise[: len(samples)]


@cache
def _noise(n_blocks: int) -> Samples:
    """Return ``n_blocks`` times ``NOISE_SAMPLES`` of noise; all lengths begin alike."""
    rng = np.random.default_rng(0)
    return np.float32(DITHER) * rng.standard_normal(n_blocks * NOISE_SAMPLES, np.float32)


def _symbols(tokenizer: Any, n_symbols: int) -> list[str]:
    """Return the text of each class of the network; a space begins a word, "" is no text."""
    symbols = [""] * n_symbols
    for text, index in tokenizer.get_vocab().items():
        if index >= n_symbols:
            continue
        if text == tokenizer.word_delimiter_token:
            symbols[index] = " "
        elif text not in tokenizer.all_special_tokens:
            symbols[index] = text.lower() if tokenizer.do_lower_case else text
    return symbols
