"""The CTC loss, and how the models that learn by it alone begin."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tests.models.recipe.curriculum import LENGTHS
from tests.models.recipe.windows import Stage

SENTENCES = (Stage(150, 48, (1,)), Stage(200, 48, (1, 3)), Stage(1_000, 32, LENGTHS))
"""How the curricula of the w2v-BERT and the conformer begin."""


def ctc_loss(
    log_probs: Tensor, n_frames: Tensor, texts: Sequence[Sequence[int]], blank: int
) -> Tensor:
    """Return the mean over items, per token, of (n, frames, classes) log-probabilities."""
    flat = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    n_tokens = torch.tensor([len(text) for text in texts])
    return functional.ctc_loss(
        log_probs.transpose(0, 1), flat, n_frames, n_tokens, blank=blank, zero_infinity=True
    )
