"""Greedy decoding of transducers, for all items of a batch at once.

A transducer is at a frame of an item and knows the tokens that it has emitted there so far. The
joint says which token comes next, or the blank. After a token an RNN-T stays at its frame, and
after the blank it goes on to the next one (Graves, 2012). A TDT also says by how many frames to go
on, after either (Xu and others, 2023).

The blank leaves the state of the prediction network as it was, so the joint is asked about several
frames at once, and what follows a token among them is not used. Most frames of speech are blank: a
step for each token is less work than a step for each frame.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Encoded = npt.NDArray[np.float32]
"""The encoder's output, shape (n_frames, width)."""
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
States = tuple[Floats, Floats]
"""Of the prediction network's LSTM, both of shape (n_layers, n_items, width)."""


class Token(NamedTuple):
    """What was emitted at a frame, by how many frames it went on, and its log-probability."""

    symbol: int
    frame: int
    duration: int
    log_prob: float


class Joint(Protocol):
    """Prediction network and joint."""

    def begin(self, n_items: int) -> States:
        """Return the states before any token."""

    def __call__(self, frames: Floats, last: Ints, states: States) -> tuple[Floats, States]:
        """Return logits, shape (n_items, n_ahead, n_classes), and the states after ``last``.

        Args:
            frames: of the encoder's output, shape (n_items, n_ahead, width).
            last: the tokens emitted last, shape (n_items,); the blank at the beginning.
            states: before ``last``.
        """


class Rules(NamedTuple):
    """What a network's classes mean."""

    n_tokens: int
    """The blank included; in a TDT, durations follow: the i-th goes on by i frames."""
    blank: int
    has_durations: bool
    most_per_frame: int
    """Tokens at one frame, so that no network emits without end."""


def decode(
    joint: Joint, encoded: Sequence[Encoded], rules: Rules, n_ahead: int
) -> list[list[Token]]:
    """Return each item's tokens, in their order.

    Args:
        joint: asked once for a token or ``n_ahead`` blank frames of all items.
        encoded: the encoder's output of each item, without its padding.
        rules: of the network.
        n_ahead: the frames that the joint is asked about at once.
    """
    if not encoded:
        return []
    n_frames = np.array([len(each) for each in encoded], np.int64)
    shape = len(encoded), int(n_frames.max()) + n_ahead, encoded[0].shape[1]
    frames = np.zeros(shape, np.float32)
    for row, each in zip(frames, encoded, strict=True):
        row[: len(each)] = each
    tokens: list[list[Token]] = [[] for _ in encoded]
    frame, n_here = np.zeros_like(n_frames), np.zeros_like(n_frames)
    last = np.full_like(n_frames, rules.blank)
    states = joint.begin(len(encoded))
    ahead = np.arange(n_ahead)
    while (going := np.flatnonzero(frame < n_frames)).size:
        window = frames[going[:, None], frame[going, None] + ahead]
        before = (states[0][:, going], states[1][:, going])
        logits, (first, second) = joint(window, last[going], before)
        best = logits[..., : rules.n_tokens].argmax(axis=-1)
        moves = _moves(logits, best, rules)
        place = _first_token(best, moves, n_frames[going] - frame[going], rules.blank)
        # An item that has passed blank frames only is asked again where it is then.
        n_here[going[place > 0]] = 0
        frame[going] += place
        emits = (place < n_ahead) & (frame[going] < n_frames[going])
        rows, items = np.flatnonzero(emits), going[emits]
        places = place[rows]
        emitted, moved = best[rows, places], moves[rows, places]
        log_probs = _log_probs(logits[rows, places, : rules.n_tokens], emitted)
        for item, *token in zip(items, emitted, frame[items], moved, log_probs, strict=True):
            symbol, at, duration, log_prob = token
            tokens[item].append(Token(int(symbol), int(at), int(duration), float(log_prob)))
        last[items] = emitted
        states[0][:, items], states[1][:, items] = first[:, rows], second[:, rows]
        n_here[items] += 1
        moved = np.where((moved == 0) & (n_here[items] >= rules.most_per_frame), 1, moved)
        n_here[items[moved > 0]] = 0
        frame[items] += moved
    return tokens


def _moves(logits: Floats, best: Ints, rules: Rules) -> Ints:
    """Return by how many frames each of the likeliest classes goes on, shape (n_items, n_ahead)."""
    is_blank = best == rules.blank
    if not rules.has_durations:
        moves: Ints = is_blank.astype(np.int64)
    else:
        durations = logits[..., rules.n_tokens :].argmax(axis=-1)
        moves = np.where(is_blank, durations.clip(min=1), durations)
    return moves


def _first_token(best: Ints, moves: Ints, n_left: Ints, blank: int) -> Ints:
    """Follow the blanks; return where each item then is, counted from its frame.

    That is the place of its first token, or one past what is known of it.
    """
    n_items, n_ahead = best.shape
    rows, place = np.arange(n_items), np.zeros(n_items, np.int64)
    for _ in range(n_ahead):
        at = place.clip(max=n_ahead - 1)
        passes = (place < np.minimum(n_ahead, n_left)) & (best[rows, at] == blank)
        if not passes.any():
            break
        place += np.where(passes, moves[rows, at], 0)
    return place


def _log_probs(logits: Floats, classes: Ints) -> Floats:
    """Return the log-probability of a class of each row, shape (n_rows,)."""
    if not len(logits):
        return np.zeros(0, np.float32)
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(logits)), classes]
    log_probs: Floats = chosen - np.log(np.exp(shifted).sum(axis=1))
    return log_probs
