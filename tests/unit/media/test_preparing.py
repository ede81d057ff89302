import pytest

from shared.speech.chunks.chunk import Chunk
from worker.steps.prepare import choose_for_detection


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [
        ([5], [0]),
        ([5, 5], [0, 1]),
        ([5, 4, 3], [0, 1, 2]),
        ([1, 5, 2, 2, 9, 1, 3, 3, 4], [1, 4, 8]),
        ([1] * 300, [0, 100, 200]),
    ],
)
def test_the_longest_chunk_of_each_third_is_heard_to_detect_the_language(
    lengths: list[int], chosen: list[int]
) -> None:
    chunks = [
        Chunk(index, 100 * index, 100 * index + length, 0, 0)
        for index, length in enumerate(lengths)
    ]

    assert [chunk.index for chunk in choose_for_detection(chunks)] == chosen
