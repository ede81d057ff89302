"""Whisper through faster-whisper and CTranslate2: int8 on a CPU, float16 on a GPU."""

from collections.abc import Sequence
from importlib.metadata import version as installed_version

import numpy as np
import numpy.typing as npt

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio import Samples
from shared.speech.chunks import Hypothesis
from worker.engines.protocol import DecodeOptions, Device
from worker.engines.whisper.vocabulary import MAX_POSITIONS, Vocabulary, iso_code
from worker.engines.whisper.whisper import (
    SAMPLED_ANSWERS,
    SEED,
    WINDOW_SAMPLES,
    Answer,
    Items,
    Prompts,
    Whisper,
)
from worker.engines.whisper.word_times import Alignment, align_tokens

Encoded = npt.NDArray[np.floating]
"""Encoder output in main memory, shape (n_items, 1500, width): CTranslate2 cannot select items of
an array on a GPU."""

CPU_BATCH = 1
"""On two cores batches of 4 and of 12 were no faster than single items."""
GPU_BATCH = 16
"""What faster-whisper's documentation uses for the largest model on a GPU of 8 GB. CTranslate2 does
not expose its memory use; the batcher halves batches that do not fit."""


class FasterWhisperEngine(Whisper[Encoded]):
    """Whisper in batches."""

    def __init__(self, model: Model, device: Device, dtype: str) -> None:
        """Load the pinned weights from this machine; nothing is downloaded.

        ``dtype`` is a compute type of CTranslate2, such as 'int8_float16'; 'auto' is float16 on a
        GPU, else int8.

        Raises:
            ModelError: the weights are missing or damaged, or device or dtype cannot be used.
        """
        import ctranslate2
        from faster_whisper import WhisperModel

        folder, self.weights_digest = weights.pinned(model)
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if dtype == "auto":
            dtype = "float16" if device == "cuda" else "int8"
        self.device: str = device
        self.version = f"faster-whisper {installed_version('faster-whisper')}"
        self.max_batch = GPU_BATCH if device == "cuda" else CPU_BATCH
        ctranslate2.set_random_seed(SEED)
        try:
            whisper = WhisperModel(
                str(folder), device=device, compute_type=dtype, local_files_only=True
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"model '{model.id}' cannot be loaded on {device} with dtype {dtype}: {error}"
            ) from error
        self._model = whisper.model
        self._features = whisper.feature_extractor
        self.dtype: str = self._model.compute_type
        super().__init__(
            model, Vocabulary(whisper.hf_tokenizer, multilingual=self._model.is_multilingual)
        )

    def transcribe(self, batch: Sequence[Samples], options: DecodeOptions) -> list[Hypothesis]:
        """Return the words of each item and the language given or detected."""
        try:
            return self._hear(batch, options)
        except RuntimeError as error:
            # CTranslate2 has a single exception class.
            if "out of memory" in str(error):
                raise DeviceOutOfMemory(f"{self.device}: out of memory") from error
            raise EngineFailed(f"{self.version} failed") from error

    def _encode(self, batch: Sequence[Samples]) -> Encoded:
        features = [
            self._features(np.pad(item, (0, WINDOW_SAMPLES - len(item))), padding=0)
            for item in batch
        ]
        encoded = self._model.encode(_storage(np.stack(features)), to_cpu=True)
        return np.array(encoded)

    def _detect(self, encoded: Encoded) -> list[dict[str, float]]:
        return [
            {iso_code(token): float(share) for token, share in shares}
            for shares in self._model.detect_language(_storage(encoded))
        ]

    def _answer(
        self, encoded: Encoded, items: Items, prompts: Prompts, temperature: float, beam_size: int
    ) -> list[Answer]:
        search: dict[str, float] = {"beam_size": beam_size}
        if temperature > 0:
            search = {
                "beam_size": 1,
                "num_hypotheses": SAMPLED_ANSWERS,
                "sampling_topk": 0,
                "sampling_temperature": temperature,
            }
        results = self._model.generate(
            _storage(encoded[list(items)]),
            [list(prompt) for prompt in prompts],
            max_length=MAX_POSITIONS,  # CTranslate2 gives half of it to the answer at most
            return_scores=True,
            return_no_speech_prob=True,
            # -1 stands for the list in the model's settings.
            suppress_tokens=[-1, *self._vocabulary.never_answered],
            **search,
        )
        answers = []
        for result in results:
            best = int(np.argmax(result.scores))
            tokens = result.sequences_ids[best]
            # The score is a mean over the answer's tokens without the end of text.
            avg_logprob = result.scores[best] * len(tokens) / (len(tokens) + 1)
            answers.append(Answer(tokens, avg_logprob, result.no_speech_prob))
        return answers

    def _align(
        self,
        encoded: Encoded,
        items: Items,
        starts: Prompts,
        texts: Sequence[Sequence[int]],
        n_frames: Sequence[int],
    ) -> list[Alignment]:
        alignments: dict[int, Alignment] = {}
        for start in {tuple(start) for start in starts}:
            # A call takes one start sequence, so there is a call for each language.
            alike = [i for i, other in enumerate(starts) if tuple(other) == start]
            results = self._model.align(
                _storage(encoded[[items[i] for i in alike]]),
                list(start),
                [list(texts[i]) for i in alike],
                [2 * n_frames[i] for i in alike],  # as they are before the encoder halves them
            )
            for i, result in zip(alike, results, strict=True):
                alignments[i] = align_tokens(
                    _first_frames(result.alignments), result.text_token_probs
                )
        return [alignments[i] for i in range(len(items))]


def _first_frames(path: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return the frame at which a path of pairs (token, frame) enters each token."""
    tokens, frames = np.array(path).T
    starts: npt.NDArray[np.int64] = frames[np.diff(tokens, prepend=-1) != 0]
    return starts


def _storage(array: Encoded) -> object:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
