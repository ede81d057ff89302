"""Which voices are the same: pure functions over embeddings of unit length.

The number of speakers is read from the eigengap of a neighbour graph's Laplacian, with the number
of neighbours that makes the gap clearest (NME-SC: Park et al., "Auto-Tuning Spectral Clustering for
Speaker Diarization Using Normalized Maximum Eigengap", 2020). No threshold decides which of two
voices are alike, so that neither the microphone nor the noise needs tuning. Thousands of embeddings
are reduced to groups first.
"""

import numpy as np
import numpy.typing as npt

from shared.speech.speakers.turns import SpeakerHints
from worker.diarization.protocol import Vectors

MAX_SPEAKERS = 20
"""Most speakers that are told apart unless the hints ask for more."""
BLOCK = 1000
"""Most embeddings that are compared each with each: 8 MB of similarities."""
GROUPS = 50
"""Groups that such a block is reduced to where there are several."""
ONE_VOICE = 0.7
"""Speakers whose mean voices are more alike (cosine) are one. Different people's lie below 0.65,
and the halves of one person's above 0.8."""
FEW = 6
"""So few embeddings make no neighbour graph."""
FEW_ALIKE = 0.5
"""Groups of few embeddings are one speaker's if their mean similarity (cosine) is at least this."""
_N_NEIGHBOURS = 16
"""Numbers of neighbours that are tried."""
_ROUNDS = 10

Labels = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]


def cluster(embeddings: Vectors, weights: npt.NDArray[np.float32], hints: SpeakerHints) -> Labels:
    """Return the speaker of each embedding, from 0; as many speakers as there are and hints allow.

    Args:
        embeddings: shape (n, n_features).
        weights: how much each counts in a mean voice, above 0; shape (n,).
        hints: how many speakers there are at least and at most.
    """
    n = len(embeddings)
    if n == 0:
        return np.zeros(0, np.int64)
    groups = _groups(embeddings, weights)
    nodes = means(embeddings, weights, groups)
    totals = np.bincount(groups, weights).astype(np.float32)
    labels = _cluster_nodes(nodes, totals, hints)
    return _refined(embeddings, weights, labels[groups])


def means(embeddings: Vectors, weights: npt.NDArray[np.float32], labels: Labels) -> Vectors:
    """Return the mean of each cluster, of unit length; shape (n_clusters, n_features)."""
    sums = np.zeros((labels.max(initial=-1) + 1, embeddings.shape[1]), np.float32)
    np.add.at(sums, labels, embeddings * weights[:, np.newaxis])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.maximum(lengths, 1e-6), np.float32)


def _groups(embeddings: Vectors, weights: npt.NDArray[np.float32]) -> Labels:
    """Reduce many embeddings to groups, block by block in their order."""
    n = len(embeddings)
    if n <= BLOCK:
        return np.arange(n)
    groups = np.zeros(n, np.int64)
    n_groups = 0
    for block in np.array_split(np.arange(n), -(-n // BLOCK)):
        found = agglomerate(embeddings[block], weights[block], GROUPS)
        groups[block] = n_groups + found
        n_groups += int(found.max()) + 1
    return groups


def _cluster_nodes(nodes: Vectors, weights: npt.NDArray[np.float32], hints: SpeakerHints) -> Labels:
    least, most = limits(hints)
    if len(nodes) > FEW:
        vectors, count = _spectrum(nodes, most)
        labels = _k_means(vectors[:, :count], count)
    else:
        labels = agglomerate(nodes, weights, least, FEW_ALIKE)
        count = int(labels.max()) + 1
    if count < least:
        return agglomerate(nodes, weights, least)
    while count > least:
        centroids = means(nodes, weights, labels)
        alike = centroids @ centroids.T - 2 * np.eye(count, dtype=np.float32)
        first, second = np.unravel_index(np.argmax(alike), alike.shape)
        if count <= most and alike[first, second] < ONE_VOICE:
            break
        labels = np.unique(np.where(labels == second, first, labels), return_inverse=True)[1]
        count -= 1
    return labels


def limits(hints: SpeakerHints) -> tuple[int, int]:
    """Return the fewest and the most speakers that hints allow."""
    if hints.count is not None:
        return max(hints.count, 1), max(hints.count, 1)
    least = max(hints.min or 1, 1)
    return least, max(least, hints.max or MAX_SPEAKERS)


def _spectrum(nodes: Vectors, most: int) -> tuple[Matrix, int]:
    """Return the Laplacian's eigenvectors, smallest value first, and the number of speakers."""
    similarity = nodes @ nodes.T
    n = len(nodes)
    order = np.argsort(-similarity, axis=1, kind="stable")
    best: tuple[float, Matrix, int] = (np.inf, np.zeros((n, 0), np.float32), 1)
    for n_neighbours in np.unique(np.geomspace(2, max(3, n // 2), _N_NEIGHBOURS).astype(int)):
        graph = np.zeros((n, n), np.float32)
        np.put_along_axis(graph, order[:, :n_neighbours], 1, axis=1)
        mutual = (graph + graph.T) / 2
        laplacian = np.diag(mutual.sum(axis=1)) - mutual
        values, vectors = np.linalg.eigh(laplacian)
        gaps = np.diff(values[: min(most, n - 1) + 1])
        gap = float(gaps.max()) / max(float(values[-1]), 1e-6)
        ratio = n_neighbours / n / max(gap, 1e-6)
        if ratio < best[0]:
            best = (ratio, vectors, int(np.argmax(gaps)) + 1)
    return best[1], best[2]


def _k_means(rows: Matrix, count: int) -> Labels:
    """Return the cluster of each row. It begins at rows far apart, and so knows no chance."""
    chosen = [int(np.argmax(np.linalg.norm(rows - rows.mean(axis=0), axis=1)))]
    distances = np.linalg.norm(rows - rows[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distances)))
        distances = np.minimum(distances, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
    centres = rows[chosen]
    labels = np.zeros(len(rows), np.int64)
    for _ in range(_ROUNDS):
        labels = np.argmin(np.linalg.norm(rows[:, np.newaxis] - centres, axis=2), axis=1)
        centres = np.stack(
            [
                rows[labels == k].mean(axis=0) if (labels == k).any() else centres[k]
                for k in range(count)
            ]
        )
    return np.unique(labels, return_inverse=True)[1]


def _refined(embeddings: Vectors, weights: npt.NDArray[np.float32], labels: Labels) -> Labels:
    """Move embeddings to the mean voice that they are most like, as long as none is left empty."""
    for _ in range(_ROUNDS):
        closest = np.argmax(embeddings @ means(embeddings, weights, labels).T, axis=1)
        if np.array_equal(closest, labels) or len(np.unique(closest)) < labels.max() + 1:
            break
        labels = closest
    return labels


def agglomerate(
    embeddings: Vectors, weights: npt.NDArray[np.float32], count: int, alike: float = 2.0
) -> Labels:
    """Merge the most similar clusters until ``count`` are left or none are ``alike``.

    The similarity of two clusters is the mean of their members' (average linkage).
    """
    n = len(embeddings)
    sizes = weights.astype(np.float64)
    similarity = (embeddings @ embeddings.T).astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    labels = np.arange(n)
    for n_left in range(n, 0, -1):
        first, second = np.unravel_index(np.argmax(similarity), similarity.shape)
        if n_left <= count or similarity[first, second] < (alike if alike <= 1 else -np.inf):
            break
        total = sizes[first] + sizes[second]
        merged = (similarity[first] * sizes[first] + similarity[second] * sizes[second]) / total
        similarity[first], similarity[:, first] = merged, merged
        similarity[first, first] = -np.inf
        similarity[second], similarity[:, second] = -np.inf, -np.inf
        sizes[first] = total
        labels[labels == second] = first
    return np.unique(labels, return_inverse=True)[1]
