"""The interface of diarizers: a recording is heard in spans, then its speakers are told apart.

    span of audio ──local──► Activities ─┐
    span of audio ──local──► Activities ─┼──cluster──► Diarization
    span of audio ──local──► Activities ─┘

``local`` is all that needs the audio. Spans are independent: any worker may take any of them, in
any order and more than once.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from shared.speech.audio.samples import Samples
from shared.speech.speakers.turns import SpeakerHints, Turn

CONTEXT_S = 5.0
"""Audio on both sides of a span that its ``local`` should be given too, where there is some: its
first and last words are then heard by as many windows as all others."""

Vectors = npt.NDArray[np.float32]
"""Shape (n, n_features); of embeddings each of unit length."""


@dataclass(frozen=True, slots=True, eq=False)
class Activities:
    """What was heard in a span: windows, in each of which a few local speakers talk.

    Speaker 0 of one window has nothing to do with speaker 0 of the next.
    """

    starts: npt.NDArray[np.int64]
    """The first sample of each window, on the recording's timeline; shape (n_windows,)."""
    lengths: npt.NDArray[np.int32]
    """Frames of each window; shape (n_windows,). The rest of its activity is 0."""
    activity: npt.NDArray[np.uint8]
    """How surely each local speaker talks, from 0 to 255, in frames of ``hearing.FRAME_SAMPLES``;
    shape (n_windows, n_frames, n_local). A diarizer's n_local is always the same."""
    windows: npt.NDArray[np.int32]
    """The window of each embedding; shape (n_embeddings,)."""
    voices: npt.NDArray[np.uint8]
    """The local speaker of each embedding; shape (n_embeddings,)."""
    alone_s: npt.NDArray[np.float16]
    """Speech of each embedding's speaker while nobody else talks; shape (n_embeddings,)."""
    embeddings: npt.NDArray[np.float16]
    """Shape (n_embeddings, n_features)."""
    plda: npt.NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    """The embeddings in the space of a PLDA (``plda.Plda``), shape (n_embeddings, n_plda); n_plda
    is 0 where the diarizer has none."""
    plda_variances: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """How much speakers vary along each axis of that space; shape (n_plda,). It is here because
    ``cluster`` has no weights."""

    def to_bytes(self) -> bytes:
        """Return a compact form, some 100 KB for ten minutes."""
        buffer = io.BytesIO()
        for each in fields(self):
            np.lib.format.write_array(buffer, getattr(self, each.name), allow_pickle=False)
        return zlib.compress(buffer.getvalue())

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return what ``to_bytes`` has written.

        Raises:
            ModelError: it was not.
        """
        try:
            buffer = io.BytesIO(zlib.decompress(content))
            arrays = [np.lib.format.read_array(buffer, allow_pickle=False) for _ in fields(cls)]
        except (zlib.error, ValueError) as error:
            raise ModelError("what was heard of the speakers is damaged") from error
        return cls(*arrays)


@dataclass(frozen=True, slots=True, eq=False)
class Diarization:
    """Who speaks when in a recording."""

    turns: tuple[Turn, ...]
    """In time order. Speakers are numbered from 0 in the order in which they are first heard."""
    centroids: Vectors
    """The mean voice of each speaker, of unit length; shape (n_speakers, n_features)."""


class Diarizer(Protocol):
    """Tells speakers apart. Equal input gives equal output."""

    @property
    def version(self) -> str:
        """The library that it rests on, and its version, such as 'onnxruntime 1.23.2'."""
        ...

    @property
    def weights_digest(self) -> str:
        """'sha256:...' of the weights' files; equal weights have equal digests."""
        ...

    def local(self, audio: Samples, start_s: float) -> Activities:
        """Hear one span of a recording.

        Args:
            audio: the span, with CONTEXT_S of what is around it.
            start_s: where in the recording ``audio`` begins.

        Raises:
            ModelError: the network failed.
        """
        ...

    def cluster(self, activities: Sequence[Activities], hints: SpeakerHints) -> Diarization:
        """Tell the speakers of all spans apart, given in any order.

        As many speakers are told apart as ``hints`` ask for, and fewer only where fewer voices were
        embedded. Spans may overlap.
        """
        ...
