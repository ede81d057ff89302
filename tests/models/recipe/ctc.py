"""Training with the CTC loss alone, shared by the w2v-BERT and the conformer."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.recipe.checkpoints import resume, save
from tests.models.recipe.curriculum import Phase, rate
from tests.models.recipe.data import Clip, pick
from tests.models.recipe.windows import Stage, fill_window, stack

log = logging.getLogger(__name__)

PEAK_RATE = 2e-3
SENTENCES = (
    Stage(150, 48, (1,)),
    Stage(250, 48, (1, 3)),
    Stage(300, 32, (1, 3, 5)),
    Stage(1_400, 32, (1, 3, 5, 9)),
)
"""How every curriculum begins."""


def ctc_loss(
    log_probs: Tensor, n_frames: Tensor, texts: Sequence[Sequence[int]], blank: int
) -> Tensor:
    """Return the mean over items, per token, of (n, frames, classes) log-probabilities."""
    flat = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    n_tokens = torch.tensor([len(text) for text in texts])
    return functional.ctc_loss(
        log_probs.transpose(0, 1), flat, n_frames, n_tokens, blank=blank, zero_infinity=True
    )


def train(
    model: nn.Module,
    clips: Sequence[Clip],
    encode: Callable[[str], list[int]],
    blank: int,
    phases: Sequence[Phase],
    seed: int,
    checkpoint: Path,
) -> None:
    """Go through all phases.

    Args:
        model: maps (n, samples) and lengths (n,) to log-probabilities (n, frames, classes) and
            frames (n,).
        clips: what to train on.
        encode: gives a text's token ids.
        blank: the id of CTC's blank.
        phases: what it hears in which order; ends with what it will hear in use.
        seed: of the windows; the model was seeded when it was made.
        checkpoint: where a run is kept; one that was broken off goes on from there.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.98))
    done = resume(checkpoint, model, [optimizer])
    rng = np.random.default_rng([seed, done])
    total = sum(phase.n_steps for phase in phases)
    step, started = 0, time.monotonic()
    model.train()
    for stage in (stage for phase in phases for stage in phase.stages):
        drawn = pick([clip for clip in clips if len(clip.text.split()) in stage.lengths], rng)
        for _ in range(stage.n_steps):
            step += 1
            if step <= done:
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate(phases, step - 1)
            windows = [fill_window(stage, drawn, rng) for _ in range(stage.batch_size)]
            with torch.autocast("cpu", torch.bfloat16):
                log_probs, n_frames = model(*stack(windows), gently=stage.gentle)
            loss = ctc_loss(log_probs, n_frames, [encode(w.text) for w in windows], blank)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 50 == 0 or step == total:
                elapsed_s = time.monotonic() - started
                log.info(f"step {step}/{total} {elapsed_s:.0f} s: loss {loss:.3f}")
                save(checkpoint, step, model, [optimizer])
    model.eval()
