"""Probabilistic linear discriminant analysis (PLDA): a space in which voices are compared.

There the voices of one speaker vary by 1 along each axis, independently, whatever noise and words
do to them, and speakers vary by a known variance. The embeddings are whitened and reduced first, as
BUT's VBx (https://github.com/BUTSpeechFIT/VBx, Apache-2.0) and pyannote.audio 4 (MIT) do.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from shared.infra.errors import ModelError
from worker.diarization.protocol import Vectors

Matrix = npt.NDArray[np.float64]


class Plda:
    """Two files of pyannote's community-1, loaded."""

    def __init__(self, folder: Path) -> None:
        """Read ``xvec_transform.npz`` and ``plda.npz``; neither has a pickle in it.

        Raises:
            ModelError: one of them is damaged, or of another kind.
        """
        first = _read(folder / "xvec_transform.npz", "mean1", "lda", "mean2")
        self._mean, self._lda, self._reduced_mean = first
        second = _read(folder / "plda.npz", "mu", "tr", "psi")
        self._centre, axes, variances = second
        n_features, n_reduced = self._lda.shape if self._lda.ndim == 2 else (0, 0)
        expected = [(n_features,), (n_features, n_reduced), (n_reduced,)]
        expected += [(n_reduced,), (n_reduced, n_reduced), (n_reduced,)]
        if not n_reduced or [each.shape for each in (*first, *second)] != expected:
            raise ModelError("the model's PLDA has arrays of unexpected shapes")
        # VBx computes the axes as eigenvectors of the covariances within and between speakers.
        # Those are inverse(tr.T @ tr) and inverse(tr.T @ diag(1 / psi) @ tr), so the axes are the
        # rows of tr, and the eigenvalues are psi. They are sorted there.
        order = np.argsort(-variances, kind="stable")
        self._axes = axes[order]
        self.variances = variances[order].astype(np.float32)
        """How much speakers vary along each axis; shape (n_plda,)."""

    def __call__(self, embeddings: Vectors) -> Vectors:
        """Return embeddings, shape (n, n_features), in that space: (n, n_plda).

        They are as the network gave them, not of unit length.
        """
        n_features, n_reduced = self._lda.shape
        whitened = np.sqrt(n_features) * _unit(embeddings - self._mean)
        reduced = np.sqrt(n_reduced) * _unit(whitened @ self._lda - self._reduced_mean)
        return np.asarray((reduced - self._centre) @ self._axes.T, np.float32)


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float64)


def _read(path: Path, *names: str) -> list[Matrix]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name].astype(np.float64) for name in names]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ModelError(f"the model's {path.name} cannot be read") from error
