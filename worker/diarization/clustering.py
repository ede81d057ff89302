"""Which voices are the same: pure functions over embeddings of unit length.

Clusters are merged, the most similar first (average linkage), down to a similarity that the
recording itself sets: noise, rooms and telephones make the embeddings of one voice less alike, and
how alike those are shows in every embedding's nearest neighbour. Thousands of embeddings are
reduced to groups first.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from shared.speech.speakers.turns import SpeakerHints
from worker.diarization.protocol import Vectors

MAX_SPEAKERS = 20
"""Most speakers that are told apart unless the hints ask for more."""
ALIKE = 0.6
"""Clusters are one speaker's if their mean similarity is at least this share of that between an
embedding and its nearest neighbour (docs/fidelity.md)."""
ONE_VOICE = 0.7
"""Speakers whose mean voices are more alike (cosine) are one: noise cancels out in means."""
SMALL_S = 4.0
"""Clusters with less speech are taken for a voice that was heard badly, and join the most similar
one unless they are like none."""
LIKE_NONE = 0.45
"""Share of the nearest neighbours' similarity below which a mean voice is like no other."""
LEAST_SIMILARITY = 0.6
"""Of nearest neighbours: they are different people where nobody talks twice."""
BLOCK = 1000
"""Most embeddings that are compared each with each: 8 MB of similarities."""
GROUPS = 50
"""Groups that such a block is reduced to where there are several."""
WINDOW_S = 10.0
"""Embeddings whose windows begin further apart share no speech."""
MORE_CLUSTERS = 20
"""How many more clusters than speakers are tried until enough of them are large."""
_ROUNDS = 10

Labels = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]
Linkage = Literal["average", "centroid"]


def cluster(
    embeddings: Vectors, weights: Weights, starts_s: npt.NDArray[np.float64], hints: SpeakerHints
) -> Labels:
    """Return the speaker of each embedding, from 0; as many speakers as there are and hints allow.

    Args:
        embeddings: shape (n, n_features).
        weights: seconds of speech, above 0; shape (n,).
        starts_s: where the window of each begins; shape (n,).
        hints: how many speakers there are at least and at most.
    """
    if not len(embeddings):
        return np.zeros(0, np.int64)
    groups = grouped(embeddings, weights)
    nodes = mean_vectors(embeddings, weights, groups)
    totals = np.bincount(groups, weights).astype(np.float32)
    tree = Dendrogram(nodes, totals)
    near = _nearest_similarity(embeddings, starts_s)
    labels = _without_small(nodes, totals, tree.cut(alike=ALIKE * near), LIKE_NONE * near)
    labels = merged(nodes, totals, labels, 1, ONE_VOICE)
    least, most = limits(hints)
    n_found = int(labels.max()) + 1
    if not least <= n_found <= most:
        labels = exactly(nodes, totals, tree, least if n_found < least else most)
    return _refined(embeddings, weights, labels[groups])


def means(embeddings: Vectors, weights: Weights, labels: Labels) -> Vectors:
    """Return the mean of each cluster, of unit length; shape (n_clusters, n_features)."""
    vectors = mean_vectors(embeddings, weights, labels)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), np.float32)


def mean_vectors(embeddings: Vectors, weights: Weights, labels: Labels) -> Vectors:
    """Return the means as they are: the product of two is the mean of their members' products."""
    n_clusters = labels.max(initial=-1) + 1
    sums = np.zeros((n_clusters, embeddings.shape[1]), np.float32)
    np.add.at(sums, labels, embeddings * weights[:, np.newaxis])
    totals = np.bincount(labels, weights, minlength=n_clusters)[:, np.newaxis]
    return np.asarray(sums / np.maximum(totals, 1e-6), np.float32)


def limits(hints: SpeakerHints) -> tuple[int, int]:
    """Return the fewest and the most speakers that hints allow."""
    if hints.count is not None:
        return max(hints.count, 1), max(hints.count, 1)
    least = max(hints.min or 1, 1)
    return least, max(least, hints.max or MAX_SPEAKERS)


class Dendrogram:
    """All merges of the most similar clusters, from single embeddings to one cluster.

    The similarity of two clusters is the mean of their members' (average linkage), or the negative
    square of the distance of their means (centroid linkage).
    """

    def __init__(
        self,
        embeddings: Vectors,
        weights: Weights,
        linkage: Linkage = "average",
        apart: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Merge embeddings, which count by their weights.

        ``apart``, of shape (n, n), says which are never one: clusters with any two of these have a
        similarity of minus infinity.
        """
        self._n = n = len(embeddings)
        sizes = weights.astype(np.float32)
        similarity = np.asarray(embeddings @ embeddings.T, np.float32)
        if linkage == "centroid":
            squares = np.diag(similarity).copy()
            similarity = 2 * similarity - squares - squares[:, np.newaxis]
        if apart is not None:
            similarity[apart] = -np.inf
        np.fill_diagonal(similarity, -np.inf)
        nearest = similarity.argmax(axis=1)
        closeness = similarity.max(axis=1)
        self._merges: list[tuple[int, int, float]] = []
        for _ in range(n - 1):
            first = int(np.argmax(closeness))
            second = int(nearest[first])
            self._merges.append((first, second, float(closeness[first])))
            total = sizes[first] + sizes[second]
            row = (similarity[first] * sizes[first] + similarity[second] * sizes[second]) / total
            if linkage == "centroid":
                # A mean is nearer to anything than its members are on average (Lance and Williams).
                row -= closeness[first] * sizes[first] * sizes[second] / total**2
            row[[first, second]] = -np.inf
            similarity[first], similarity[:, first] = row, row
            similarity[second], similarity[:, second] = -np.inf, -np.inf
            sizes[first] = total
            stale = np.flatnonzero((nearest == first) | (nearest == second))
            nearest[stale] = similarity[stale].argmax(axis=1)
            closeness[stale] = similarity[stale, nearest[stale]]
            nearest[first] = row.argmax()
            closeness[first], closeness[second] = row[nearest[first]], -np.inf
            closer = row > closeness
            nearest[closer], closeness[closer] = first, row[closer]

    def cut(self, count: int = 1, alike: float = -np.inf) -> Labels:
        """Return the clusters when ``count`` are left, or no two are ``alike``."""
        labels = np.arange(self._n)
        for first, second, similarity in self._merges[: max(0, self._n - count)]:
            if similarity < alike:
                break
            labels[labels == second] = first
        return _compact(labels)


def grouped(embeddings: Vectors, weights: Weights) -> Labels:
    """Reduce many embeddings to groups, block by block in their order."""
    n = len(embeddings)
    if n <= BLOCK:
        return np.arange(n)
    groups = np.zeros(n, np.int64)
    n_groups = 0
    for block in np.array_split(np.arange(n), -(-n // BLOCK)):
        found = Dendrogram(embeddings[block], weights[block]).cut(GROUPS)
        groups[block] = n_groups + found
        n_groups += int(found.max()) + 1
    return groups


def _nearest_similarity(embeddings: Vectors, starts_s: npt.NDArray[np.float64]) -> float:
    """Return the median similarity of embeddings to their nearest neighbours in other windows."""
    some = np.unique(np.linspace(0, len(embeddings) - 1, BLOCK).astype(int))
    similarity = embeddings[some] @ embeddings[some].T
    shares_speech = np.abs(starts_s[some][:, np.newaxis] - starts_s[some]) < WINDOW_S
    nearest = np.where(shares_speech, -1, similarity).max(axis=1)
    nearest = nearest[nearest > -1]
    return max(LEAST_SIMILARITY, float(np.median(nearest)) if len(nearest) else 0.0)


def _without_small(nodes: Vectors, weights: Weights, labels: Labels, like_none: float) -> Labels:
    """Add clusters with little speech to the most similar one, the smallest first."""
    while labels.max() > 0:
        alike = _similarities(nodes, weights, labels)
        sizes = np.bincount(labels, weights)
        sizes[alike.max(axis=1) <= like_none] = np.inf
        smallest = int(np.argmin(sizes))
        if sizes[smallest] >= SMALL_S:
            break
        labels = _compact(np.where(labels == smallest, int(alike[smallest].argmax()), labels))
    return labels


def merged(
    nodes: Vectors, weights: Weights, labels: Labels, count: int, alike: float = -np.inf
) -> Labels:
    """Merge clusters by their mean voices until ``count`` are left, or none are ``alike``."""
    while labels.max() >= count:
        similarities = _similarities(nodes, weights, labels)
        first, second = divmod(int(np.argmax(similarities)), len(similarities))
        if similarities[first, second] < alike:
            break
        labels = _compact(np.where(labels == second, first, labels))
    return labels


def exactly(nodes: Vectors, weights: Weights, tree: Dendrogram, count: int) -> Labels:
    """Return ``count`` clusters, large ones if there are as many; fewer of fewer nodes."""
    for n_clusters in range(count, min(count + MORE_CLUSTERS, len(nodes)) + 1):
        labels = _without_small(nodes, weights, tree.cut(n_clusters), -np.inf)
        if labels.max() + 1 >= count:
            return merged(nodes, weights, labels, count)
    return tree.cut(count)


def _similarities(nodes: Vectors, weights: Weights, labels: Labels) -> npt.NDArray[np.float32]:
    centroids = means(nodes, weights, labels)
    similarities = np.asarray(centroids @ centroids.T, np.float32)
    np.fill_diagonal(similarities, -np.inf)
    return similarities


def _refined(embeddings: Vectors, weights: Weights, labels: Labels) -> Labels:
    """Move embeddings to the mean voice that they are most like, unless one were left empty."""
    for _ in range(_ROUNDS):
        closest = np.argmax(embeddings @ means(embeddings, weights, labels).T, axis=1)
        if np.array_equal(closest, labels) or len(np.unique(closest)) < labels.max() + 1:
            break
        labels = closest
    return labels


def _compact(labels: Labels) -> Labels:
    return np.unique(labels, return_inverse=True)[1]
