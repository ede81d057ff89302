"""The loss of the tiny transducer is that of all alignments, and so is its gradient."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.models.recipe.tdt_loss import path_loss

N_TOKENS, N_FRAMES = [2, 1, 0, 2], [4, 4, 2, 1]


def alignments(
    after_token: Tensor, after_blank: Tensor, n_frames: int, n_tokens: int, t: int = 0, u: int = 0
) -> Iterator[Tensor]:
    """Yield the log-probability of every path of one item, walked one by one."""
    if t == n_frames:
        return
    for duration in range(after_blank.shape[-1]):
        to = t + duration
        if duration and to == n_frames and u == n_tokens:
            yield after_blank[t, u, duration]
        if to >= n_frames:
            continue
        if duration:
            for rest in alignments(after_token, after_blank, n_frames, n_tokens, to, u):
                yield after_blank[t, u, duration] + rest
        if u < n_tokens:
            for rest in alignments(after_token, after_blank, n_frames, n_tokens, to, u + 1):
                yield after_token[t, u, duration] + rest


@pytest.mark.parametrize("n_durations", [2, 5])
def test_loss_and_gradient_are_those_of_all_paths_walked_one_by_one(n_durations: int) -> None:
    torch.manual_seed(1)
    shape = (len(N_FRAMES), max(N_FRAMES), max(N_TOKENS) + 1, n_durations)
    given = [torch.randn(shape, requires_grad=True) for _ in range(2)]

    loss = path_loss(*given, torch.tensor(N_FRAMES), torch.tensor(N_TOKENS))
    gradients = torch.autograd.grad(loss.sum(), given)

    walked = [
        torch.stack([*alignments(given[0][i], given[1][i], n_frames, n_tokens)])
        for i, (n_frames, n_tokens) in enumerate(zip(N_FRAMES, N_TOKENS, strict=True))
    ]
    assert len(walked[0]) > len(walked[1]) > 1
    expected = -torch.stack([paths.logsumexp(0) for paths in walked])
    torch.testing.assert_close(loss, expected)
    for gradient, other in zip(gradients, torch.autograd.grad(expected.sum(), given), strict=True):
        torch.testing.assert_close(gradient, other)
