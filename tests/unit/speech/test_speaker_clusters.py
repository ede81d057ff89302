"""Which voices are the same: clustering of embeddings."""

import numpy as np
import numpy.typing as npt
import pytest

from shared.speech.speakers.turns import SpeakerHints
from worker.diarization.clustering import BLOCK, MAX_SPEAKERS, cluster
from worker.diarization.protocol import Vectors

N_FEATURES = 192
Labels = npt.NDArray[np.int64]


def voices(
    counts: list[int], noise: float, seed: int = 1
) -> tuple[Vectors, npt.NDArray[np.float64], Labels]:
    """Return embeddings of so many windows for each speaker, in turn, with starts and speakers.

    Two embeddings of one speaker have a similarity of about 1 / (1 + noise ** 2).
    """
    draw = np.random.default_rng(seed)
    speakers = draw.permutation(np.repeat(np.arange(len(counts)), counts))
    own = draw.normal(size=(len(counts), N_FEATURES))
    found = own[speakers] + noise * draw.normal(size=(len(speakers), N_FEATURES))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32), np.arange(len(speakers)) * 5.0, speakers


def clustered(
    embeddings: Vectors, starts_s: npt.NDArray[np.float64], hints: SpeakerHints | None = None
) -> Labels:
    weights = np.full(len(embeddings), 3, np.float32)
    return cluster(embeddings, weights, starts_s, hints or SpeakerHints())


def are_equal(found: Labels, true: Labels) -> bool:
    """Whether two clusterings are the same but for their numbers."""
    pairs = set(zip(found.tolist(), true.tolist(), strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(true.tolist()))


@pytest.mark.parametrize("noise", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("counts", [[20], [9, 9], [40, 4, 12], [15] * 6, [8] * 12])
def test_speakers_are_counted_and_told_apart_in_any_noise(counts: list[int], noise: float) -> None:
    embeddings, starts_s, speakers = voices(counts, noise)

    assert are_equal(clustered(embeddings, starts_s), speakers)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_exact_count_is_honoured(count: int) -> None:
    embeddings, starts_s, speakers = voices([12, 12, 12], 0.5)

    found = clustered(embeddings, starts_s, SpeakerHints(count=count))

    assert len(np.unique(found)) == count
    assert count != 3 or are_equal(found, speakers)


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (SpeakerHints(min=2, max=5), 3),
        (SpeakerHints(min=5), 5),
        (SpeakerHints(max=2), 2),
        (SpeakerHints(min=4, max=4), 4),
    ],
)
def test_limits_are_never_left(hints: SpeakerHints, expected: int) -> None:
    embeddings, starts_s, _ = voices([12, 12, 12], 0.5)

    assert len(np.unique(clustered(embeddings, starts_s, hints))) == expected


def test_more_speakers_than_voices_are_not_invented() -> None:
    embeddings, starts_s, _ = voices([2, 1], 0.3)

    assert len(np.unique(clustered(embeddings, starts_s, SpeakerHints(count=1000)))) == 3


def test_ten_hours_keep_one_label_for_each_speaker() -> None:
    embeddings, starts_s, speakers = voices([4 * BLOCK, 2 * BLOCK, BLOCK, 60, 30, 20], 0.5)

    assert are_equal(clustered(embeddings, starts_s), speakers)


def test_few_embeddings_are_enough() -> None:
    one, _, _ = voices([1], 0.3)
    two, starts_s, speakers = voices([2, 2], 0.3)

    assert clustered(one, np.zeros(1)).tolist() == [0]
    assert clustered(one[:0], np.zeros(0)).tolist() == []
    assert are_equal(clustered(two, starts_s), speakers)


def test_twenty_speakers_are_counted() -> None:
    embeddings, starts_s, speakers = voices([10] * 20, 0.5)

    assert are_equal(clustered(embeddings, starts_s), speakers)


def test_somebody_who_says_two_seconds_in_ten_hours_is_a_speaker() -> None:
    embeddings, starts_s, speakers = voices([3 * BLOCK, 2 * BLOCK, BLOCK, 1], 0.4)
    weights = np.where(speakers == 3, 2, 3).astype(np.float32)

    found = cluster(embeddings, weights, starts_s, SpeakerHints())

    assert are_equal(found, speakers)


def test_voices_that_nobody_has_twice_are_no_more_speakers_than_allowed() -> None:
    embeddings, starts_s, _ = voices([1] * (2 * BLOCK), 0.3)

    assert len(np.unique(clustered(embeddings, starts_s))) <= MAX_SPEAKERS
    assert len(np.unique(clustered(embeddings, starts_s, SpeakerHints(max=3)))) <= 3
