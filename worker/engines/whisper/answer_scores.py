"""How likely the answers of a Whisper on torch are, noted while they are generated.

The library's own scores of a search are (steps, answers, vocabulary) numbers: gigabytes. Reading
the finished answers once more costs a quarter of the time.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Rules = Callable[["Tensor", "Tensor"], "Tensor"]
"""A logits processor: the tokens so far, (n_rows, n_tokens), and logits, (n_rows, n_vocabulary)."""


class AnswerScores:
    """A logits processor that applies rules, and notes the log probabilities of what may be chosen.

    Probabilities are those among the tokens that the rules allow, before any temperature.
    """

    def __init__(self, rules: Rules, n_given: int, end: int, n_beams: int) -> None:
        """Score answers that begin after ``n_given`` tokens and end with the token ``end``."""
        self._rules, self._n_given, self._end, self._n_beams = rules, n_given, end, n_beams
        self._likeliest: list[tuple[Tensor, Tensor]] = []
        """Of each step of a search: log probabilities and tokens, both (n_rows, 2 * n_beams)."""
        self._before: Tensor | None = None
        """Log probabilities of the last step of greedy decoding or sampling."""
        self._chosen: list[Tensor] = []
        """Of each step of these, shape (n_rows,)."""

    def __call__(self, tokens: "Tensor", logits: "Tensor") -> "Tensor":
        """Return the logits with minus infinity for tokens that may not come next."""
        allowed = self._rules(tokens, logits)
        log_probs = allowed.log_softmax(-1)
        if self._n_beams > 1:
            # Of all continuations the search keeps this many, so none has another token.
            values, ids = log_probs.topk(2 * self._n_beams)
            self._likeliest.append((values, ids))
        else:
            self._note(tokens)
            self._before = log_probs
        return allowed

    def _note(self, tokens: "Tensor") -> None:
        if self._before is not None:
            self._chosen.append(self._before.gather(1, tokens[:, -1:])[:, 0])

    def means(self, sequences: "Tensor", beam_indices: "Tensor | None") -> "Tensor":
        """Return each answer's mean log probability, its end included, shape (n_answers,).

        Args:
            sequences: shape (n_answers, n_given + n_steps), padded with the end.
            beam_indices: of a search, shape (n_answers, n_steps): the row in which each token was
                chosen, negative after the end.
        """
        import torch

        said = sequences[:, self._n_given :]
        if beam_indices is None:
            self._note(sequences)
            chosen = torch.stack(self._chosen, dim=1)
        else:
            steps = []
            for step in range(said.shape[1]):
                values, ids = self._likeliest[step]
                rows = beam_indices[:, step].clamp_min(0)
                is_it = ids[rows] == said[:, step, None]
                steps.append(torch.where(is_it, values[rows], 0.0).sum(dim=1))
            chosen = torch.stack(steps, dim=1)
        is_end = said == self._end
        # The first end belongs to the answer, and padding comes after it.
        counts = is_end.cumsum(dim=1) - is_end.long() == 0
        return torch.where(counts, chosen, 0.0).sum(dim=1) / counts.sum(dim=1)
