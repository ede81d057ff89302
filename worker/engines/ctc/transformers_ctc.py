"""wav2vec 2.0 and w2v-BERT with CTC, through transformers and torch.

Batches are padded to their longest item. Networks that were trained with an attention mask (all
w2v-BERTs, the large wav2vec 2.0) ignore padding. Those trained without one (wav2vec 2.0 base, whose
first layer normalises over the whole length) do not, so their items run one by one. The feature
extractor's ``return_attention_mask`` tells which kind a network is.

The library has one leak. Many fine-tuned w2v-BERTs halve their frame rate by an adapter, whose
convolutions read beyond an item's end. A single item has zeros there, so padding is set to zero.
Items of networks with other adapters run one by one.

Items also run one by one on a processor in bfloat16: padding changes how sums are rounded, and a
word's confidence by up to 0.007. Layers of w2v-BERT 2.0's width gain nothing from batches anyway.

w2v-BERT's features are logarithms of Kaldi's filter bank, without Kaldi's dither and without its
energy floor; Kaldi expects one of the two. Digital silence then lies far below all speech. Features
are normalised over the item, so the share of silence would change the features of words. Therefore
noise as loud as Kaldi's dither is added to the audio of w2v-BERTs.
"""

import json
import threading
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Samples
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines.ctc.best_path import LogProbs, best_path
from worker.engines.ctc.kaldi_filters import KaldiFilters
from worker.engines.emissions import join_words, may_hold_words
from worker.engines.processors import multiplies_bfloat16
from worker.engines.protocol import DecodeOptions, Device, EngineOf, Prepared
from worker.engines.torch_models import Streams, choose_device, load_pretrained, torch_failures

if TYPE_CHECKING:
    import torch

DITHER = 1 / 32_768
"""Standard deviation of the noise: one step of 16-bit audio, Kaldi's default."""
NOISE_SAMPLES = 30 * SAMPLE_RATE
"""Length of the noise that is kept, so that it is not drawn for each item; few are longer."""
GPU_BATCH = 16
"""Items of 20 s: less than 2 GB of attention scores in the largest of these networks."""
CPU_BATCH = 4
"""Of models that are too large to be measured."""
CPU_BATCHES = (1, 2, 4)
"""On one core, 4 items of 15 s took a network of 24 million parameters 1.6 s together, 2.8 s one by
one."""


class _Input(NamedTuple):
    tensors: "dict[str, torch.Tensor]"
    """The network's inputs for one item, each of shape (1, n_steps, ...)."""
    n_samples: int
    language: str | None


class _Output(NamedTuple):
    log_probs: LogProbs
    n_samples: int
    language: str | None


class TransformersCtcEngine(EngineOf[_Input, _Output]):
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
        self.device, self.dtype = choose_device(model, device, dtype, on_cpu=_cpu_dtype(folder))
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
        self._call = _Call()
        self._padding_value: float = self._features.padding_value
        self._filters: KaldiFilters | None = None
        if isinstance(self._features, SeamlessM4TFeatureExtractor):
            self._filters = KaldiFilters(self._features, self.device)
        self._masks: bool = self._features.return_attention_mask and self._close_adapter()
        self._frame_samples = self._measure_stride()
        self._streams = Streams(self.device)
        self.streams = self._streams.count
        self.window_samples = round(model.window_s * SAMPLE_RATE)
        self._pads = self._masks and (self.device, self.dtype) != ("cpu", "bfloat16")
        if self._pads:
            self.max_batch = GPU_BATCH if self.device == "cuda" else CPU_BATCH
            self.batch_sizes = () if self.device == "cuda" else CPU_BATCHES

    def prepare(self, samples: Samples, options: DecodeOptions) -> Prepared[_Input] | Hypothesis:
        """Compute an item's features, on the device."""
        import torch

        if not may_hold_words(samples):
            return Hypothesis((), options.language)
        with torch_failures(self.device, self.version), torch.inference_mode():
            features = self._prepare(samples)
            tensors = {
                name: tensor.to(
                    self.device, self._model.dtype if tensor.is_floating_point() else None
                )
                for name, tensor in features.items()
            }
        return Prepared(_Input(tensors, len(samples), options.language), len(samples))

    def infer(self, batch: Sequence[Prepared[_Input]]) -> list[_Output | Prepared[_Input]]:
        """Compute the posteriors of each item's frames; the beam size is ignored."""
        at_once = len(batch) if self._pads else 1
        outputs: list[_Output | Prepared[_Input]] = []
        with torch_failures(self.device, self.version), self._streams.call():
            for at in range(0, len(batch), at_once):
                items = [item.input for item in batch[at : at + at_once]]
                outputs += [
                    _Output(log_probs, item.n_samples, item.language)
                    for item, log_probs in zip(items, self._infer(items), strict=True)
                ]
        return outputs

    def rehearsal(self) -> Callable[[int], object]:
        """Infer noise with the threads of a call beside others."""
        rehearse = super().rehearsal()

        def rehearse_beside_another(n_items: int) -> None:
            with self._streams.call():
                rehearse(n_items)

        return rehearse_beside_another

    def finish(self, raw: _Output) -> Hypothesis:
        """Follow the best path, and join its symbols to words."""
        path = best_path(raw.log_probs, self._symbols, self._blank)
        words = join_words(path, self._frame_samples, raw.n_samples)
        return Hypothesis(words, raw.language)

    def _infer(self, items: Sequence[_Input]) -> list[LogProbs]:
        """Return the log-probabilities of each item's frames, without those of its padding."""
        import torch

        with torch.inference_mode():
            inputs = {name: self._pad(name, items) for name in items[0].tensors}
            if self._masks:
                self._call.n_steps = inputs["attention_mask"].sum(-1)
            log_probs = self._model(**inputs).logits.float().log_softmax(-1).cpu().numpy()
        if not self._masks:
            return list(log_probs)
        return [item[:n] for item, n in zip(log_probs, self._count_frames(inputs), strict=True)]

    def _pad(self, name: str, items: Sequence[_Input]) -> "torch.Tensor":
        """Return one of the network's inputs for a batch, each item padded to the longest."""
        from torch.nn.utils.rnn import pad_sequence

        padding = 0.0 if name == "attention_mask" else self._padding_value
        rows = [item.tensors[name][0] for item in items]
        return pad_sequence(rows, batch_first=True, padding_value=padding)

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
        n_steps = self._call.n_steps
        padding = torch.arange(hidden.shape[-1], device=hidden.device) >= n_steps[:, None]
        return (hidden.masked_fill(padding[:, None], 0.0),)

    def _prepare(self, samples: Samples) -> "dict[str, torch.Tensor]":
        if self._filters is not None:
            features = self._filters([_dither(samples)])
            return features if self._masks else {"input_features": features["input_features"]}
        inputs = self._features(
            np.asarray(samples),
            sampling_rate=SAMPLE_RATE,
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
            self._count_frames(self._prepare(np.zeros(n, dtype=np.float32)))[0] for n in lengths
        )
        return round((lengths[1] - lengths[0]) / (longer - shorter))


def _cpu_dtype(folder: Path) -> str:
    """Return what a processor computes the network of a folder in.

    bfloat16 halves the time of w2v-BERT's layers where processors have AMX. On the speech that the
    network of tests/models has not seen it hears the same words, and the log probability of a
    frame's symbol changes by 0.002 on average, by 0.09 at most. Of wav2vec 2.0 this is not known.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "float32"  # loading it will say what is wrong
    is_w2v_bert = isinstance(config, dict) and config.get("model_type") == "wav2vec2-bert"
    return "bfloat16" if is_w2v_bert and multiplies_bfloat16() else "float32"


class _Call(threading.local):
    """What hooks on the network must know of the call under way in their thread."""

    n_steps: "torch.Tensor"
    """Shape (n_items,): the steps of each item that are not padding."""


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
