"""Which token a Whisper on torch may say next, for a whole batch and without leaving the GPU.

The rules are those of OpenAI's whisper/decoding.py. The library has them, too
(``WhisperTimeStampLogitsProcessor``), but reads the tokens so far back from the device at every
step, in older versions several times for each item: the device waits meanwhile.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from worker.engines.whisper.vocabulary import TIMESTAMP_S, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

LATEST_START_S = 1.0
"""The first timestamp is no later: OpenAI's ``max_initial_timestamp``, and CTranslate2's."""


class NextToken:
    """Sets the logits of tokens that may not come next to minus infinity.

    - An answer begins with a timestamp, of ``LATEST_START_S`` at most.
    - Timestamps come in pairs, the end of a segment and the beginning of the next one, and never
      step back; a segment does not end when it begins.
    - Where all timestamps together are likelier than the likeliest text, it is a timestamp.
    - Tokens that steer the decoder, and those that the model's settings name, are never said.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        n_tokens: int,
        never: Collection[int],
        never_first: Collection[int],
        device: str,
    ) -> None:
        """Lay the masks out on the device.

        Args:
            vocabulary: of the model.
            n_tokens: how many logits the model gives, those that stand for nothing included.
            never: tokens that the model's settings suppress everywhere.
            never_first: those that they suppress at the beginning of an answer.
            device: 'cpu' or 'cuda'.
        """
        import torch

        self._end, self._first_timestamp = vocabulary.end, vocabulary.first_timestamp
        suppressed = [*never, *vocabulary.never_answered, vocabulary.no_timestamps]
        tokens = torch.arange(n_tokens)
        masked = torch.isin(tokens, torch.tensor(suppressed))
        latest = self._first_timestamp + round(LATEST_START_S / TIMESTAMP_S)
        first = (tokens < self._first_timestamp) | (tokens > latest)
        first |= torch.isin(tokens, torch.tensor(list(never_first), dtype=torch.long))
        self._masked, self._masked_first = masked.to(device), (masked | first).to(device)
        self._times = tokens[self._first_timestamp :].to(device)

    def after(self, n_given: int) -> Callable[["Tensor", "Tensor"], "Tensor"]:
        """Return the rules for answers that begin after so many tokens, as a logits processor.

        It takes the tokens so far, shape (n_answers, n_tokens), and the logits of the next one,
        float of shape (n_answers, n_vocabulary), and returns them with minus infinity where a token
        may not come next. Timestamps so far must have kept to the rules.
        """

        def allow(tokens: "Tensor", logits: "Tensor") -> "Tensor":
            return self._allow(tokens[:, n_given:], logits)

        return allow

    def _allow(self, said: "Tensor", logits: "Tensor") -> "Tensor":
        import torch

        never = -torch.inf
        if said.shape[1] == 0:
            return logits.masked_fill(self._masked_first, never)
        logits = logits.masked_fill(self._masked, never)
        text, times = logits[:, : self._first_timestamp], logits[:, self._first_timestamp :]
        is_time = said >= self._first_timestamp
        after_time = is_time[:, -1]
        opened = torch.ones_like(after_time) if said.shape[1] == 1 else is_time[:, -2]
        after_end = after_time & ~opened
        # A segment that has ended may be followed at once, so that only then a time comes twice.
        latest = torch.where(is_time, said, self._first_timestamp - 1).amax(dim=1)
        earliest = latest + (~after_end).long()
        too_early = self._times < earliest[:, None]
        times.masked_fill_(too_early | (after_time & opened)[:, None], never)
        text[:, : self._end].masked_fill_(after_end[:, None], never)
        is_timestamp = times.logsumexp(dim=1) > text.amax(dim=1)
        text.masked_fill_(is_timestamp[:, None], never)
        return logits
