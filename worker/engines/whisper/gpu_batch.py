"""How many windows fit a GPU at once, measured when the model is loaded."""

from collections.abc import Callable

LARGEST_GPU_BATCH = 128
"""A decoder step takes about the same time for one window as for this many (docs/performance.md).
Larger batches would only make the next chunk wait longer."""
GPU_SHARE = 0.8
"""Of the memory that is free after loading; the rest is for fragmentation and other processes."""


def fit_batch(infer: Callable[[int], None]) -> int:
    """Return how many windows fit the GPU, from the memory peaks of one and of two.

    ``infer`` infers a number of windows, each with as much memory as a window can take.
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
    """Return how many items of ``item_bytes`` fit beside ``fixed_bytes``.

    At least one: if it does not fit, its own call fails.
    """
    return max(1, min(LARGEST_GPU_BATCH, (room_bytes - fixed_bytes) // item_bytes))


def runs_of(n_items: int, n_answers: int, answers_at_once: int | None) -> list[slice]:
    """Divide items, of ``n_answers`` each, into runs that are decoded together.

    A run has at most ``answers_at_once`` answers, or one item; None is no bound.
    """
    size = max(1, n_items if answers_at_once is None else answers_at_once // n_answers)
    return [slice(at, at + size) for at in range(0, n_items, size)]
