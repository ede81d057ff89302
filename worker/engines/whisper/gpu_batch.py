"""How many windows fit a GPU at once, measured when the model is loaded."""

from collections.abc import Callable

LARGEST_GPU_BATCH = 128
"""A step of the decoder takes about the same time for one window as for so many
(docs/performance.md). But a chunk that comes next waits for a whole batch."""
GPU_SHARE = 0.8
"""Of the memory that is free after loading; the rest is for fragmentation and other processes."""


def fit_batch(infer: Callable[[int], None]) -> int:
    """Return how many windows fit the GPU, from the peaks of one and of two.

    Args:
        infer: infers so many windows, each with as much memory as a window can take.
    """
    import torch

    peaks = []
    for n_items in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        infer(n_items)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    per_item = max(1, peaks[1] - peaks[0])
    return largest_batch(round(GPU_SHARE * free), peaks[0] - per_item, per_item)


def largest_batch(room_bytes: int, fixed_bytes: int, item_bytes: int) -> int:
    """Return how many items fit; at least one, whose own call tells that it does not fit.

    Args:
        room_bytes: memory for all of them.
        fixed_bytes: taken whatever their number is.
        item_bytes: taken by each of them.
    """
    return max(1, min(LARGEST_GPU_BATCH, (room_bytes - fixed_bytes) // item_bytes))


def runs_of(n_items: int, n_answers: int, answers_at_once: int | None) -> list[slice]:
    """Divide items into runs that are decoded together.

    Args:
        n_items: how many items there are.
        n_answers: answers of each item.
        answers_at_once: the most answers of a run, but one item at least; None: no bound.
    """
    size = n_items if answers_at_once is None else max(1, answers_at_once // n_answers)
    return [slice(at, at + size) for at in range(0, n_items, size or 1)]
