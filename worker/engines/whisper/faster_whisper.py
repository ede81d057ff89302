"""Whisper through faster-whisper and CTranslate2: int8 on a CPU, float16 on a GPU."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shared.infra.errors import DeviceOutOfMemory, EngineFailed, ModelError
from shared.models import weights
from shared.models.catalogue import Model
from shared.speech.audio.samples import Samples
from worker.engines.processors import CallsUnderWay, Shares, share_processors
from worker.engines.protocol import Device, Prepared
from worker.engines.whisper.vocabulary import MAX_POSITIONS, Vocabulary, iso_code
from worker.engines.whisper.whisper import (
    SAMPLED_ANSWERS,
    SEED,
    Answer,
    Features,
    Prompts,
    Spoken,
    Whisper,
    Window,
)
from worker.engines.whisper.word_times import Alignment, align_tokens

T = TypeVar("T")
Encoded = npt.NDArray[np.floating]
"""Encoder output in main memory, shape (n_items, 1500, width): CTranslate2 cannot select items of
an array on a GPU."""

N_FRAMES = 3_000
"""Of 10 ms, in a window of 30 s."""
CPU_BATCH = 4
"""Of models that are too large to be measured: items share the reading of their weights."""
CPU_BATCHES = (1, 4, 8)
"""Beams of several windows share the reading of the decoder's weights, but may not fit a core's
cache."""
MOST_BYTES_TWICE = 500_000_000
"""Files of weights up to this size are loaded a second time, for calls that are alone: those of
Whisper small. Those of tiny.en, 75 MB, add 90 MB to the process."""
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
        self.batch_sizes = () if device == "cuda" else CPU_BATCHES
        shares = Shares(1, 1, 1) if device == "cuda" else share_processors()
        self.streams = shares.streams
        ctranslate2.set_random_seed(SEED)
        try:
            whisper = WhisperModel(
                str(folder),
                device=device,
                compute_type=dtype,
                cpu_threads=shares.threads,
                num_workers=shares.streams,
                local_files_only=True,
            )
            of_lone_calls = whisper.model
            if _is_loaded_twice(folder, shares):
                of_lone_calls = ctranslate2.models.Whisper(
                    str(folder), device=device, compute_type=dtype, intra_threads=shares.alone
                )
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"model '{model.id}' cannot be loaded on {device} with dtype {dtype}: {error}"
            ) from error
        self._call = _Call(whisper.model)
        self._of_lone_calls, self._calls = of_lone_calls, CallsUnderWay()
        self._features = whisper.feature_extractor
        self.dtype: str = self._model.compute_type
        super().__init__(
            model, Vocabulary(whisper.hf_tokenizer, multilingual=self._model.is_multilingual)
        )

    def infer(self, batch: Sequence[Prepared[Window]]) -> list[Spoken | Prepared[Window]]:
        """Encode, decode and align a batch."""
        with self._failures(), self._calls.begin() as is_alone:
            if not is_alone:
                return super().infer(batch)
            with self._call.by(self._of_lone_calls):
                return super().infer(batch)

    @property
    def _model(self) -> Any:
        """The ``ctranslate2.models.Whisper`` that computes this thread's call."""
        return self._call.model

    def _features_of(self, samples: Samples) -> Features:
        """Compute the frames that hold sound; the frames of silence after them are all equal."""
        padded = np.pad(samples, (0, self._features.n_fft))
        sound = self._features(padded, padding=0)[:, :N_FRAMES]
        silence = (max(-10.0, 4.0 * float(sound.max()) - 4.0 - 8.0) + 4.0) / 4.0
        features = np.full((len(sound), N_FRAMES), silence, np.float32)
        features[:, : sound.shape[1]] = sound
        return features

    def _encode(self, features: Sequence[Features]) -> Encoded:
        return np.concatenate(
            [
                np.asarray(self._model.encode(_storage(np.stack(part)), to_cpu=True))
                for part in self._divide(features)
            ]
        )

    def _select(self, encoded: Encoded, items: Sequence[int]) -> Encoded:
        return encoded if len(items) == len(encoded) else encoded[list(items)]

    def _keep(self, encoded: Encoded, item: int) -> Encoded:
        # A copy: a view would hold the whole batch in memory.
        kept: Encoded = encoded[item].copy()
        return kept

    def _join(self, kept: Sequence[Encoded]) -> Encoded:
        return np.stack(kept)

    def _detect(self, encoded: Encoded) -> list[dict[str, float]]:
        return [
            {iso_code(token): float(share) for token, share in shares}
            for shares in self._model.detect_language(_storage(encoded))
        ]

    def _answer(
        self, encoded: Encoded, prompts: Prompts, temperature: float, beam_size: int
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
            _storage(encoded),
            [list(prompt) for prompt in prompts],
            max_length=MAX_POSITIONS,  # CTranslate2 gives half of it to the answer at most
            return_scores=True,
            return_no_speech_prob=True,
            # Otherwise an answer without timestamps could not be empty.
            suppress_blank=self._timestamps,
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

    def _say(self, encoded: Encoded, n_tokens: int) -> None:
        self._model.generate(
            _storage(encoded),
            [[self._vocabulary.start]] * len(encoded),
            beam_size=self._beam_size,
            max_length=2 * n_tokens,  # half of it is the answer's
            suppress_tokens=[-1, self._vocabulary.end],
        )

    def _align(
        self,
        encoded: Encoded,
        starts: Prompts,
        texts: Sequence[Sequence[int]],
        n_frames: Sequence[int],
    ) -> list[Any]:
        alignments: dict[int, Any] = {}
        for start in {tuple(start) for start in starts}:
            # A call takes one start sequence, so there is a call for each language.
            alike = [i for i, other in enumerate(starts) if tuple(other) == start]
            for part in self._divide(alike):
                results = self._model.align(
                    _storage(self._select(encoded, part)),
                    list(start),
                    [list(texts[i]) for i in part],
                    [2 * n_frames[i] for i in part],  # as they are before the encoder halves them
                )
                alignments |= zip(part, results, strict=True)
        return [alignments[i] for i in range(len(texts))]

    def _divide(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """Divide a batch for calls that read whole windows: the encoder's and the alignment's.

        On a CPU each window has a call of its own, as several do not fit a core's cache.
        """
        size = 1 if self.device == "cpu" else len(items)
        for at in range(0, len(items), size):
            yield items[at : at + size]

    def _place(self, attention: Any) -> Alignment:
        return align_tokens(_first_frames(attention.alignments), attention.text_token_probs)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn errors of CTranslate2, which has a single class, into Longhand's."""
        try:
            yield
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise DeviceOutOfMemory(f"{self.device}: out of memory") from error
            raise EngineFailed(f"{self.version} failed") from error


class _Call(threading.local):
    """The call under way in each thread."""

    def __init__(self, model: Any) -> None:
        self.model = model
        """A ``ctranslate2.models.Whisper``; the one given, unless the call is alone."""

    @contextmanager
    def by(self, model: Any) -> Iterator[None]:
        """Have another model compute while the block runs."""
        usual, self.model = self.model, model
        try:
            yield
        finally:
            self.model = usual


def _is_loaded_twice(folder: Path, shares: Shares) -> bool:
    """Whether lone calls have a model of their own: threads of a loaded one cannot be changed."""
    weights_bytes = (folder / "model.bin").stat().st_size
    return shares.alone > shares.threads and weights_bytes <= MOST_BYTES_TWICE


def _first_frames(path: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return the frame at which a path of pairs (token, frame) enters each token."""
    tokens, frames = np.array(path).T
    starts: npt.NDArray[np.int64] = frames[np.diff(tokens, prepend=-1) != 0]
    return starts


def _storage(array: Encoded) -> object:
    import ctranslate2

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))
