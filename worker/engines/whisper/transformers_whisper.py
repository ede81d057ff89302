"""Whisper through transformers and torch: float32 on a CPU, float16 on a GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio.samples import Samples
from worker.engines.protocol import Device, Prepared
from worker.engines.torch_models import Streams, choose_device, load_pretrained, torch_failures
from worker.engines.whisper.alignment_heads import AlignmentHeads
from worker.engines.whisper.answer_scores import AnswerScores
from worker.engines.whisper.gpu_batch import fit_batch, runs_of
from worker.engines.whisper.log_mel import LogMel
from worker.engines.whisper.token_rules import NextToken
from worker.engines.whisper.vocabulary import MAX_ANSWER_TOKENS, MAX_POSITIONS, Vocabulary
from worker.engines.whisper.whisper import (
    SAMPLED_ANSWERS,
    SEED,
    WINDOW_SAMPLES,
    Answer,
    Features,
    Prompts,
    Spoken,
    Whisper,
    Window,
)
from worker.engines.whisper.word_times import Alignment, align_tokens, path_starts

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from worker.engines.whisper.cross_attention import Cross, SharedKeys

CPU_BATCH = 4
"""Of models that are too large to be measured."""
CPU_BATCHES = (1, 4, 8)
"""A step of a small decoder is mostly the library's own work, which a batch shares: in one thread
a window of tiny.en takes 2.8 s of processor time alone, 1.7 s in a batch of 8."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A batch after the encoder and the decoder's first step."""

    hidden: "Tensor"
    """Shape (n_items, 1500, width)."""
    first_logits: "Tensor"
    """Shape (n_items, n_vocabulary), float32: after nothing but the start of transcript."""
    cross: "Cross"
    """Keys and values of the decoder's cross-attention."""


class _Attention(NamedTuple):
    """Where an item's text tokens are, and how likely they are."""

    score: "npt.NDArray[np.floating]"
    """How much each attends to each frame, shape (n_tokens + 1, n_frames)."""
    probabilities: list[float]


class TransformersWhisperEngine(Whisper[_Encoded]):
    """Whisper in batches; encoder output stays on the device."""

    def __init__(
        self,
        model: Model,
        device: Device,
        dtype: str,
        *,
        compile: bool = False,  # noqa: A002 - torch's own word for it
    ) -> None:
        """Load the pinned weights from this machine; no code of the repository is run.

        With ``compile``, torch compiles encoder and decoder, and the first batches are slow.

        Raises:
            ModelError: the weights are missing, damaged or not a Whisper's, or device or dtype
                cannot be used; see ``choose_device``.
            DeviceOutOfMemory, EngineFailed: the device cannot take it.
        """
        import torch
        from transformers import (
            WhisperFeatureExtractor,
            WhisperForConditionalGeneration,
            WhisperTokenizer,
        )

        from worker.engines.whisper import cross_attention

        folder, self.weights_digest = weights.pinned(model)
        self.device, self.dtype = choose_device(model, device, dtype)
        self.version = f"transformers {installed_version('transformers')}"
        half_on_gpu = self.device == "cuda" and self.dtype != "float32"
        flash = half_on_gpu and find_spec("flash_attn") is not None
        self._net, extractor, tokenizer = load_pretrained(
            model,
            folder,
            self.dtype,
            (WhisperForConditionalGeneration, WhisperFeatureExtractor, WhisperTokenizer),
            attn_implementation="flash_attention_2" if flash else "sdpa",
        )
        with torch_failures(self.device, self.version):
            self._net.to(self.device).eval()
        cross_attention.share_keys(self._net)
        self._features = LogMel(extractor, self.device)
        settings = self._net.generation_config
        multilingual = bool(getattr(settings, "is_multilingual", True))
        vocabulary = Vocabulary(tokenizer.backend_tokenizer, multilingual=multilingual)
        super().__init__(model, vocabulary)
        self._next_token = NextToken(
            self._vocabulary,
            n_tokens=self._net.config.vocab_size,
            never=settings.suppress_tokens or (),
            never_first=settings.begin_suppress_tokens or (),
            timestamps=model.decode.timestamps,
            device=self.device,
        )
        self._heads = AlignmentHeads(self._net)
        # The rules above replace the model's own settings for choosing tokens.
        self._net.generation_config = type(settings)()
        # Whole texts are read by the decoder that is not compiled, as a compiled one would not call
        # the hooks of the alignment heads.
        self._read_text = self._net.model.decoder.forward
        if compile:
            for part in (self._net.model.encoder, self._net.model.decoder):
                part.forward = torch.compile(part.forward, dynamic=True)
        torch.manual_seed(SEED)
        self.max_batch = CPU_BATCH
        self._streams = Streams(self.device)
        self.streams = self._streams.count
        self._answers_at_once: int | None = None
        if self.device == "cpu":
            self.batch_sizes = CPU_BATCHES
        else:
            beam_size = model.decode.beam_size
            with torch_failures(self.device, self.version):
                self.max_batch = self._fit_batch(beam_size)
            self._answers_at_once = self.max_batch * beam_size

    def infer(self, batch: Sequence[Prepared[Window]]) -> list[Spoken | Prepared[Window]]:
        """Encode, decode and align a batch."""
        import torch

        failures = torch_failures(self.device, self.version)
        with failures, torch.inference_mode(), self._streams.call():
            return super().infer(batch)

    def _features_of(self, samples: Samples) -> Features:
        import torch

        with torch_failures(self.device, self.version), torch.inference_mode():
            return self._features([samples])[0].to(self._net.dtype)

    def _encode(self, features: Sequence[Features]) -> _Encoded:
        import torch

        return self._begin(self._net.model.encoder(torch.stack([*features])).last_hidden_state)

    def _begin(self, hidden: "Tensor") -> _Encoded:
        """Run the decoder's first step for items of the encoder's output."""
        import torch

        from worker.engines.whisper.cross_attention import new_cache

        start = torch.full((len(hidden), 1), self._vocabulary.start, device=self.device)
        cache = new_cache()
        last = self._read(start, hidden, cache)[:, 0]
        return _Encoded(hidden, self._net.proj_out(last).float(), cache.cross_attention_cache)

    def _select(self, encoded: _Encoded, items: Sequence[int]) -> _Encoded:
        from worker.engines.whisper.cross_attention import select_items

        if len(items) == len(encoded.hidden):
            return encoded
        chosen = [*items]
        return _Encoded(
            encoded.hidden[chosen],
            encoded.first_logits[chosen],
            select_items(encoded.cross, chosen),
        )

    def _keep(self, encoded: _Encoded, item: int) -> "Tensor":
        # Not the keys and values: those of each layer take twice as much memory.
        return encoded.hidden[item].clone()

    def _join(self, kept: "Sequence[Tensor]") -> _Encoded:
        import torch

        return self._begin(torch.stack([*kept]))

    def _detect(self, encoded: _Encoded) -> list[dict[str, float]]:
        languages = self._vocabulary.languages
        shares = encoded.first_logits[:, list(languages.values())].softmax(-1)
        return [dict(zip(languages, row, strict=True)) for row in shares.tolist()]

    def _answer(
        self, encoded: _Encoded, prompts: Prompts, temperature: float, beam_size: int
    ) -> list[Answer]:
        # ``max_batch`` is measured for the beam, and fallback draws more answers: items take turns.
        n_answers = SAMPLED_ANSWERS if temperature > 0 else beam_size
        answers: list[Answer] = []
        for run in runs_of(len(prompts), n_answers, self._answers_at_once):
            items = range(len(prompts))[run]
            answers += self._answer_at_once(
                self._select(encoded, items), prompts[run], temperature, beam_size
            )
        return answers

    def _answer_at_once(
        self, encoded: _Encoded, prompts: Prompts, temperature: float, beam_size: int
    ) -> list[Answer]:
        import torch

        n_given = len(prompts[0])
        given = torch.tensor([list(prompt) for prompt in prompts], device=self.device)
        search: dict[str, Any] = {"do_sample": False, "num_beams": beam_size}
        if temperature > 0:
            search = {
                "do_sample": True,
                "temperature": temperature,
                "top_k": 0,  # draw from all tokens: the library's own limit is the likeliest 50
                "num_return_sequences": SAMPLED_ANSWERS,
            }
        n_beams = search.get("num_beams", 1)
        rules = self._next_token.after(n_given)
        scoring = AnswerScores(rules, n_given, self._vocabulary.end, n_beams)
        generated = self._generate(encoded, given, [scoring], **search)
        sequences, n_items = generated.sequences, len(prompts)
        scores = scoring.means(sequences, getattr(generated, "beam_indices", None))
        best_scores, best = scores.view(n_items, -1).max(dim=1)
        rows = torch.arange(n_items, device=self.device)
        chosen = sequences.view(n_items, -1, sequences.shape[1])[rows, best, n_given:]
        no_speech = encoded.first_logits.softmax(-1)[:, self._vocabulary.no_speech]
        return [
            Answer([t for t in tokens if t != self._vocabulary.end], score, no_speech_prob)
            for tokens, score, no_speech_prob in zip(
                chosen.tolist(), best_scores.tolist(), no_speech.tolist(), strict=True
            )
        ]

    def rehearsal(self) -> Callable[[int], object]:
        """Decode some tokens of so many items."""
        import torch

        def in_inference_mode(call: Callable[[int], object], n_items: int) -> None:
            with torch_failures(self.device, self.version), torch.inference_mode():
                call(n_items)

        with torch_failures(self.device, self.version), torch.inference_mode():
            return partial(in_inference_mode, super().rehearsal())

    def _say(self, encoded: _Encoded, n_tokens: int) -> None:
        import torch

        n_items = len(encoded.hidden)
        given = torch.full((n_items, 1), self._vocabulary.start, device=self.device)
        search = {"num_beams": self._beam_size, "min_new_tokens": n_tokens}
        self._generate(encoded, given, [], max_new_tokens=n_tokens, **search)

    def _align(
        self,
        encoded: _Encoded,
        starts: Prompts,
        texts: Sequence[Sequence[int]],
        n_frames: Sequence[int],
    ) -> list[Any]:
        import torch

        end = self._vocabulary.end
        given = [
            [*start, self._vocabulary.no_timestamps, *text]
            for start, text in zip(starts, texts, strict=True)
        ]
        longest = max(map(len, given))
        padded = [tokens + [end] * (longest - len(tokens)) for tokens in given]
        cache = self._new_cache(encoded)
        with self._heads.watched() as seen:
            read = self._read(torch.tensor(padded, device=self.device), encoded.hidden, cache)
        attention = []
        for i, (start, text) in enumerate(zip(starts, texts, strict=True)):
            # The output at position p predicts token p + 1, so the text's begins one before it.
            said = slice(len(start), len(start) + len(text) + 1)
            probabilities = self._net.proj_out(read[i, said]).float()[:, :end].softmax(-1)
            spoken = probabilities[torch.arange(len(text)), torch.tensor(text)]
            score = self._heads.weigh(seen, encoded.cross, i, said, n_frames[i])
            attention.append(_Attention(score, spoken.tolist()))
        return attention

    def _place(self, attention: _Attention) -> Alignment:
        return align_tokens(path_starts(attention.score), attention.probabilities)

    def _read(self, tokens: "Tensor", hidden: "Tensor", cache: "SharedKeys") -> "Tensor":
        """Return the decoder's last layer for whole texts, shape (n_items, n_tokens, width)."""
        last: Tensor = self._read_text(
            input_ids=tokens, encoder_hidden_states=hidden, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return last

    def _new_cache(self, encoded: _Encoded) -> "SharedKeys":
        """Return the cache for new texts of these items."""
        from worker.engines.whisper.cross_attention import new_cache

        return new_cache(encoded.cross)

    def _generate(
        self, encoded: _Encoded, given: "Tensor", rules: Sequence[Any], **search: Any
    ) -> Any:
        """Return the library's output: ``sequences``, answers after their prompts, have the shape
        (n_answers, n_tokens) and are padded with the end; ``beam_indices`` are those of a search.

        This is the library's generation for any model. Its generation for Whisper adds a loop over
        windows, and a fallback without several answers and without a check for exact repetition.
        """
        import torch
        from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList
        from transformers.modeling_outputs import BaseModelOutput

        # The library asks for the encoder's output, but the cache has all that is needed of it.
        stand_in = encoded.hidden[:, :1]
        end = self._vocabulary.end
        settings = GenerationConfig(  # type: ignore[no-untyped-call]
            decoder_start_token_id=self._vocabulary.start,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
            return_dict_in_generate=True,
            **{"max_new_tokens": min(MAX_ANSWER_TOKENS, MAX_POSITIONS - given.shape[1])} | search,
        )
        return GenerationMixin.generate(
            self._net,
            encoder_outputs=BaseModelOutput(last_hidden_state=stand_in),
            past_key_values=self._new_cache(encoded),
            # Without a mask the library warns of padding.
            attention_mask=torch.ones(stand_in.shape[:2], device=self.device),
            decoder_input_ids=given,
            logits_processor=LogitsProcessorList(rules),
            generation_config=settings,
        )

    def _fit_batch(self, beam_size: int) -> int:
        """Return how many windows fit the GPU.

        Windows are measured with as many tokens before the answer as the decoder has room for. They
        take as much memory as the longest answer, and are read at once instead of one by one.
        """
        import torch

        noise = np.random.default_rng(SEED).normal(0, 0.1, WINDOW_SAMPLES).astype(np.float32)
        n_given, n_said = MAX_POSITIONS - 2, 2

        def infer(n_items: int) -> None:
            with torch.inference_mode():
                encoded = self._encode([self._features_of(noise)] * n_items)
                given = torch.full((n_items, n_given), self._vocabulary.start, device=self.device)
                search = {"num_beams": beam_size, "min_new_tokens": n_said}
                self._generate(encoded, given, [], **search)

        return fit_batch(infer)
