"""Telling speakers apart as community-1 does: a PLDA, centroid linkage, VBx; no networks."""

from pathlib import Path

import numpy as np
import pytest

from shared.infra.errors import ModelError
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization import vbx
from worker.diarization.clustering import BLOCK, Dendrogram, Labels
from worker.diarization.plda import Plda
from worker.diarization.protocol import Vectors

N_PLDA, N_FEATURES = 24, 48


def write_plda(folder: Path, **changes: np.ndarray) -> Path:
    numbers = np.arange(48).reshape(8, 6)
    arrays = {
        "mean1": np.sin(np.arange(8)),
        "lda": np.sin(numbers * 1.3),
        "mean2": np.cos(np.arange(6)),
        "mu": np.sin(np.arange(6) + 2),
        "tr": np.cos(np.arange(36).reshape(6, 6) ** 1.1),
        "psi": np.array([0.5, 3, 1, 7, 0.2, 2]),
    } | changes
    np.savez(folder / "xvec_transform.npz", **{k: arrays[k] for k in ("mean1", "lda", "mean2")})
    np.savez(folder / "plda.npz", **{k: arrays[k] for k in ("mu", "tr", "psi")})
    return folder


def test_plda_is_that_of_pyannotes_code(tmp_path: Path) -> None:
    plda = Plda(write_plda(tmp_path))

    found = plda(np.cos(np.arange(16).reshape(2, 8) * 0.9).astype(np.float32))

    # What vbx_setup in pyannote.audio 4.0.7 gives; axes have no direction.
    expected = [
        [1.9739, 1.0538, 2.3505, 0.9058, 1.0937, 2.2907],
        [1.7155, 2.1398, 2.7038, 0.0204, 0.5919, 2.4609],
    ]
    np.testing.assert_allclose(np.abs(found), expected, atol=2e-4)
    np.testing.assert_allclose(plda.variances, [7, 3, 2, 1, 0.5, 0.2], atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"lda": np.zeros((8, 5))},
        {"psi": np.zeros(5)},
        {"mu": np.array([{}] * 6, dtype=object)},  # it would be unpickled
    ],
)
def test_files_that_are_no_plda_are_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError):
        Plda(write_plda(tmp_path, **changes))


def test_a_damaged_plda_is_refused(tmp_path: Path) -> None:
    write_plda(tmp_path)
    path = tmp_path / "plda.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"plda\.npz cannot be read"):
        Plda(tmp_path)


def example() -> tuple[Vectors, Vectors, Labels]:
    """Return voices of three speakers, the variances, and five clusters to start with."""
    rows, axes = np.arange(60)[:, np.newaxis], np.arange(N_PLDA)
    variances = np.linspace(10, 0.5, N_PLDA)
    points = np.sqrt(variances) * np.sin(1 + 2.3 * np.arange(3)[:, np.newaxis] * (axes + 1))
    voices = points[np.arange(60) % 3] + 1.4 * np.cos(1.7 * rows * (axes + 1))
    start = np.arange(60) * 7 % 11 % 5
    return voices.astype(np.float32), variances.astype(np.float32), start


def test_vbx_is_that_of_pyannotes_code() -> None:
    voices, variances, start = example()

    shares, priors = vbx.responsibilities(voices, variances, np.ones(60, np.float32), start)

    # What cluster_vbx in pyannote.audio 4.0.7 gives with Fa = 0.07, Fb = 0.8.
    np.testing.assert_allclose(priors, [0.33441, 0.32002, 0.34558, 0, 0], atol=1e-4)
    expected = [[1, 0, 0, 0, 0], [0.005, 0.733, 0.262, 0, 0], [0.004, 0.021, 0.975, 0, 0]]
    np.testing.assert_allclose(shares[:3], expected, atol=1e-3)


def test_a_voice_that_counts_three_times_is_three_voices() -> None:
    voices, variances, start = example()

    shares, priors = vbx.responsibilities(voices, variances, np.full(60, 3, np.float32), start)

    thrice = np.repeat(np.arange(60), 3)
    ones = np.ones(180, np.float32)
    expected = vbx.responsibilities(voices[thrice], variances, ones, start[thrice])
    np.testing.assert_allclose(shares, expected[0][::3], atol=1e-6)
    np.testing.assert_allclose(priors, expected[1], atol=1e-6)


@pytest.mark.parametrize("distance", [0.5, 0.9, 1.2])
def test_centroid_linkage_merges_the_nearest_means(distance: float) -> None:
    points = np.random.default_rng(3).normal(size=(30, 3)).astype(np.float32)

    found = Dendrogram(points, np.ones(30, np.float32), "centroid").cut(alike=-(distance**2))

    clusters = [[number] for number in range(30)]
    while len(clusters) > 1:
        means = np.array([points[each].mean(axis=0) for each in clusters])
        apart = np.linalg.norm(means[:, np.newaxis] - means, axis=2)
        np.fill_diagonal(apart, np.inf)
        one, other = sorted(divmod(int(apart.argmin()), len(clusters)))
        if apart[one, other] > distance:
            break
        clusters[one] += clusters.pop(other)
    expected = {frozenset(each) for each in clusters}
    assert {frozenset(np.flatnonzero(found == label).tolist()) for label in found} == expected


def drawn(counts: list[int], seed: int = 1) -> tuple[Vectors, Vectors, Vectors, Labels]:
    """Return embeddings, the same in a PLDA's space, its variances, and the speakers.

    They are drawn from the PLDA's own model. Embeddings have half of that space to themselves.
    """
    draw = np.random.default_rng(seed)
    variances = np.linspace(30, 5, N_PLDA)
    speakers = draw.permutation(np.repeat(np.arange(len(counts)), counts))
    points = np.sqrt(variances) * draw.normal(size=(len(counts), N_PLDA))
    plda = points[speakers] + draw.normal(size=(len(speakers), N_PLDA))
    embeddings = np.pad(plda, ((0, 0), (0, N_FEATURES - N_PLDA)))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (
        *(each.astype(np.float32) for each in (embeddings, plda, variances)),
        speakers,
    )


def found(counts: list[int], hints: SpeakerHints | None = None) -> tuple[Vectors, Vectors]:
    """Return the mean voices that are found, and the true ones."""
    embeddings, plda, variances, speakers = drawn(counts)
    weights = np.full(len(speakers), 3.3, np.float32)
    true = np.array([embeddings[speakers == each].mean(axis=0) for each in range(len(counts))])
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    return vbx.centroids(embeddings, plda, variances, weights, hints or SpeakerHints()), true


@pytest.mark.parametrize("counts", [[1], [2], [30], [12, 12], [40, 5, 12], [15] * 8])
def test_speakers_are_counted_and_known_by_their_mean_voices(counts: list[int]) -> None:
    centroids, true = found(counts)

    assert centroids.shape == true.shape
    assert (np.sort((centroids @ true.T).max(axis=1)) > 0.999).all()


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (SpeakerHints(count=1), 1),
        (SpeakerHints(count=3), 3),
        (SpeakerHints(count=6), 6),
        (SpeakerHints(min=5), 5),
        (SpeakerHints(max=2), 2),
        (SpeakerHints(min=2, max=9), 4),
    ],
)
def test_as_many_speakers_are_told_apart_as_hints_ask_for(
    hints: SpeakerHints, expected: int
) -> None:
    centroids, _ = found([20, 20, 20, 20], hints)

    assert len(centroids) == expected
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-4)


def test_more_voices_than_are_compared_at_once_have_as_many_speakers() -> None:
    centroids, true = found([BLOCK, BLOCK // 2, 40])

    assert len(centroids) == 3
    assert ((centroids @ true.T).max(axis=1) > 0.99).all()


def test_nobody_is_found_in_nothing() -> None:
    nothing, variances = np.zeros((0, 0), np.float32), np.ones(N_PLDA, np.float32)
    assert len(vbx.centroids(nothing, nothing, variances, variances[:0], SpeakerHints())) == 0
