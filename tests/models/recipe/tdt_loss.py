"""The loss of transducers: of those that emit durations (Xu and others, 2023), and of RNN-T.

An alignment is a path from frame 0 to just past the last frame. At frame t, after u tokens, either
the next token or the blank is emitted, and the path goes on by some frames, after the blank by at
least one. It ends with a blank that arrives just past the last frame. The loss is the negative
logarithm of the probability of all such paths together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

NEVER = -1e9
"""The logarithm of no probability; infinity would have no gradient."""
UNDER_NORMALISED = 0.05
"""What paths lose with each emission, so that few long steps are better than many short ones: the
paper's sigma."""
RNNT_SHARE = 0.1
"""Of the loss; the paper's omega. So the tokens stay right if durations are left out."""


def transducer_loss(
    logits: Tensor, n_durations: int, n_frames: Tensor, texts: Sequence[Sequence[int]]
) -> Tensor:
    """Return the loss of each item, shape (n,).

    Args:
        logits: shape (n, frames, most tokens + 1, classes + durations); the last class is the
            blank, and the durations go on by 0, 1, ... frames.
        n_durations: of them.
        n_frames: of each item, shape (n,).
        texts: each item's tokens.
    """
    log_probs = logits[..., :-n_durations].log_softmax(-1)
    durations = logits[..., -n_durations:].log_softmax(-1)
    width = logits.shape[2]
    following = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
    index = following[:, None, :, None].expand(-1, logits.shape[1], -1, -1)
    token, blank = log_probs.gather(-1, index), log_probs[..., -1:]
    n_tokens = torch.tensor([len(text) for text in texts])
    stays = torch.full_like(blank, NEVER)
    tdt = path_loss(
        token + durations - UNDER_NORMALISED,
        torch.cat([stays, blank + durations[..., 1:] - UNDER_NORMALISED], -1),
        n_frames,
        n_tokens,
    )
    rnnt = path_loss(
        torch.cat([token, stays], -1), torch.cat([stays, blank], -1), n_frames, n_tokens
    )
    return (1 - RNNT_SHARE) * tdt + RNNT_SHARE * rnnt


def path_loss(
    after_token: Tensor, after_blank: Tensor, n_frames: Tensor, n_tokens: Tensor
) -> Tensor:
    """Return the negative logarithm of all paths' probability, shape (n,).

    All nodes with equal t + u are computed at once: no path leads from one of them to another.

    Args:
        after_token: log-probabilities of emitting the next token at frame t after u tokens, and
            going on by 0, 1, ... frames; shape (n, frames, most tokens + 1, durations). What is
            past an item's own frames or tokens is not used.
        after_blank: the same for the blank; going on by no frame is not used.
        n_frames: of each item, shape (n,).
        n_tokens: of each item, shape (n,).
    """
    n, _, width, n_durations = after_blank.shape
    by_token = _by_diagonal(after_token[:, :, :-1], 1)
    by_blank = _by_diagonal(after_blank, 0)[:, :, 1:]
    # What was reached on the diagonals before, the latest first; shape (n, durations, width).
    before = torch.full((n, n_durations, width), NEVER)
    before[:, 0, 0] = 0.0
    reached = [before[:, 0]]
    for token, blank in zip(by_token.unbind(1)[1:], by_blank.unbind(1)[1:], strict=True):
        by_one_token = functional.pad(before[:, :, :-1], (1, 0), value=NEVER)
        arrivals = torch.cat([by_one_token + token, before[:, :-1] + blank], 1)
        reached.append(arrivals.logsumexp(1))
        before = torch.cat([reached[-1][:, None], before[:, :-1]], 1)
    nodes = torch.stack(reached, 1)
    item = torch.arange(n)
    ends = []
    for duration in range(1, n_durations):
        last = n_frames - duration
        end = nodes[item, (last + n_tokens).clamp(min=0), n_tokens]
        end = end + after_blank[item, last.clamp(min=0), n_tokens, duration]
        ends.append(torch.where(last >= 0, end, NEVER))
    return -torch.stack(ends).logsumexp(0)


def _by_diagonal(emissions: Tensor, n_tokens: int) -> Tensor:
    """Return what leads to the nodes of each diagonal, shape (n, diagonals, durations, width).

    Args:
        emissions: as they leave (t, u); shape (n, frames, width - n_tokens, durations).
        n_tokens: 1 if they arrive at u + 1, 0 if at u.
    """
    _, n_frames, n_left, n_durations = emissions.shape
    n_diagonals = n_frames + n_left + n_tokens - 1
    u = torch.arange(n_left)
    duration = torch.arange(n_durations)[:, None]
    t = torch.arange(n_diagonals)[:, None, None] - u - n_tokens - duration
    found = emissions[:, t.clamp(0, n_frames - 1), u, duration]
    found = torch.where((t >= 0) & (t < n_frames), found, NEVER)
    return functional.pad(found, (n_tokens, 0), value=NEVER)
