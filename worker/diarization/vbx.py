"""VBx: how many speakers there are, and how they sound, by variational Bayes over a PLDA's space.

Each speaker is a point in that space, drawn from a known distribution, and all voices are drawn
around one of these points. Starting with too many speakers, those that explain little lose what
they have to others. F. Landini et al., "Bayesian HMM clustering of x-vector sequences (VBx) in
speaker diarization", 2022, without its hidden Markov model, as in pyannote.audio 4; (16) to (25)
are the paper's equations.
"""

import numpy as np
import numpy.typing as npt

from shared.speech.speakers.turns import SpeakerHints
from worker.diarization.clustering import (
    Dendrogram,
    Labels,
    Weights,
    exactly,
    grouped,
    limits,
    mean_vectors,
    means,
)
from worker.diarization.protocol import Vectors

DISTANCE = 0.6
"""VBx starts with clusters whose mean voices, of unit length, are further apart. This and the next
two are community-1's own (its config.yaml)."""
EVIDENCE = 0.07
"""Fa: how much of a voice is evidence. Windows overlap, so voices are not independent."""
REGULARITY = 0.8
"""Fb: how much more likely few speakers are than many."""
SMOOTHNESS = 7.0
"""A voice is of the cluster it starts in by a softmax of this against 0."""
MAX_ROUNDS = 20
LEAST_GAIN = 1e-4
"""Of the lower bound of the evidence, in a round; less ends it."""
LEAST_PRIOR = 1e-7
"""Speakers with a smaller share of all voices are not there."""

Matrix = npt.NDArray[np.float64]


def centroids(
    embeddings: Vectors, plda: Vectors, variances: Vectors, weights: Weights, hints: SpeakerHints
) -> Vectors:
    """Return the mean voice of each speaker, of unit length; shape (n_speakers, n_features).

    Args:
        embeddings: of unit length; shape (n, n_features).
        plda: the same in the space of a PLDA; shape (n, n_plda).
        variances: of speakers along its axes; shape (n_plda,).
        weights: how many independent windows of pyannote's, one a second, each stands for; (n,).
        hints: how many speakers there are at least and at most.
    """
    if len(embeddings) < 2:
        return means(embeddings, weights, np.zeros(len(embeddings), np.int64))
    groups = grouped(embeddings, weights)
    voices = mean_vectors(plda, weights, groups)
    nodes = means(embeddings, weights, groups)
    totals = np.bincount(groups, weights).astype(np.float32)
    start = Dendrogram(nodes, totals, "centroid").cut(alike=-(DISTANCE**2))
    shares, priors = responsibilities(voices, variances, totals, start)
    kept = (shares * totals[:, np.newaxis])[:, priors > LEAST_PRIOR]
    found = np.asarray(kept.T @ nodes, np.float32)
    least, most = limits(hints)
    if least <= len(found) <= most:
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(lengths, 1e-6), np.float32)
    sums = mean_vectors(embeddings, weights, groups)
    count = least if len(found) < least else most
    return means(nodes, totals, exactly(sums, totals, Dendrogram(sums, totals), count))


def responsibilities(
    voices: Vectors, variances: Vectors, weights: Weights, start: Labels
) -> tuple[Matrix, Matrix]:
    """Return how likely each voice is each speaker's, (n, n_speakers), and speakers' shares.

    A voice of weight 3 counts as three voices that are the same. ``start`` has the cluster of each.
    """
    voices, variances = voices.astype(np.float64), variances.astype(np.float64)
    n_speakers, n_axes = int(start.max()) + 1, voices.shape[1]
    shares = np.exp(SMOOTHNESS * (start[:, np.newaxis] == np.arange(n_speakers)))
    shares /= shares.sum(axis=1, keepdims=True)
    priors = np.full(n_speakers, 1 / n_speakers)
    constant = -0.5 * (np.square(voices).sum(axis=1) + n_axes * np.log(2 * np.pi))
    scaled = voices * np.sqrt(variances)  # (18)
    bound = -np.inf
    for _ in range(MAX_ROUNDS):
        counted = shares * weights[:, np.newaxis]
        strength = EVIDENCE / REGULARITY * counted.sum(axis=0)[:, np.newaxis]
        uncertain = 1 / (1 + strength * variances)  # (17)
        points = EVIDENCE / REGULARITY * uncertain * (counted.T @ scaled)  # (16)
        spread = (uncertain + points**2) @ variances
        likely = EVIDENCE * (scaled @ points.T - 0.5 * spread + constant[:, np.newaxis])  # (23)
        likely += np.log(priors + 1e-8)
        evidence = _log_sum(likely)
        shares = np.exp(likely - evidence[:, np.newaxis])
        priors = weights @ shares / weights.sum()
        gain = float(np.sum(np.log(uncertain) - uncertain - points**2 + 1))
        before, bound = bound, float(weights @ evidence) + REGULARITY / 2 * gain  # (25)
        if bound - before < LEAST_GAIN:
            break
    return shares, priors


def _log_sum(logs: Matrix) -> Matrix:
    largest = logs.max(axis=1)
    return np.asarray(largest + np.log(np.exp(logs - largest[:, np.newaxis]).sum(axis=1)))
