"""What turns gradients into steps: Muon for the matrices inside a network, AdamW for all else."""

from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim import AdamW, Muon, Optimizer


def make_optimizers(model: nn.Module, heads: Iterable[nn.Module]) -> Sequence[Optimizer]:
    """Return them with one learning rate for both, to be set at every step.

    Muon (Jordan, 2024) makes a matrix's step orthogonal, so that no direction is left behind;
    scaled as Liu and others (2025) do, it takes AdamW's learning rates.

    Args:
        model: what is trained.
        heads: its last layers, whose rows are classes: AdamW's, like embeddings.
    """
    excluded = {id(head) for head in heads}
    matrices = [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Linear) and id(module) not in excluded
    ]
    inside = {id(matrix) for matrix in matrices}
    others = [x for x in model.parameters() if x.requires_grad and id(x) not in inside]
    return (
        Muon(matrices, lr=1.0, adjust_lr_fn="match_rms_adamw"),
        AdamW(others, lr=1.0, betas=(0.9, 0.98)),
    )
