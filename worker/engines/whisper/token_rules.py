"""The rules for the next token of a Whisper on torch, applied to a whole batch on the GPU.

They are those of OpenAI's whisper/decoding.py. The library's (``WhisperTimeStampLogitsProcessor``)
copy the tokens from the device at each step, in older versions several times for each item, and the
device waits meanwhile.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from worker.engines.whisper.vocabulary import TIMESTAMP_S, Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

LATEST_START_S = 1.0
"""Latest first timestamp: OpenAI's and CTranslate2's ``max_initial_timestamp``."""


class NextToken:
    """Sets the logits of tokens that may not come next to minus infinity.

    - Tokens that steer the decoder, and those that the model's settings suppress, never come.

    Answers without timestamps have none, and may be empty. Those with timestamps follow more rules:

    - An answer begins with a timestamp of at most ``LATEST_START_S``.
    - Timestamps come in pairs, the end of a segment and the start of the next one, and never
      decrease; a segment does not end at its start.
    - If all timestamps together are likelier than the likeliest text token, text is ruled out.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        n_tokens: int,
        never: Collection[int],
        never_first: Collection[int],
        timestamps: bool,
        device: str,
    ) -> None:
        """Make the masks on the device.

        ``n_tokens`` is the number of logits, unused ones included. The model's settings suppress
        the tokens ``never`` everywhere, and ``never_first`` at the start of an answer.
        """
        import torch

        self._timestamps = timestamps
        self._end, self._first_timestamp = vocabulary.end, vocabulary.first_timestamp
        suppressed = [*never, *vocabulary.never_answered, vocabulary.no_timestamps]
        tokens = torch.arange(n_tokens)
        masked = torch.isin(tokens, torch.tensor(suppressed))
        if timestamps:
            latest = self._first_timestamp + round(LATEST_START_S / TIMESTAMP_S)
            first = (tokens < self._first_timestamp) | (tokens > latest)
        else:
            masked |= tokens >= self._first_timestamp
            first = torch.isin(tokens, torch.tensor([*never_first], dtype=torch.long))
            first[self._end] = False  # an answer may be empty
        self._masked, self._masked_first = masked.to(device), (masked | first).to(device)
        self._times = tokens[self._first_timestamp :].to(device)

    def after(self, n_given: int) -> Callable[["Tensor", "Tensor"], "Tensor"]:
        """Return the rules for answers that begin after ``n_given`` tokens, as a logits processor.

        It takes the tokens so far, shape (n_answers, n_tokens), and the logits of the next one,
        float of shape (n_answers, n_vocabulary). It returns the logits with minus infinity for
        tokens that may not come next. The timestamps so far must follow the rules.
        """
        return lambda tokens, logits: self._allow(tokens[:, n_given:], logits)

    def _allow(self, said: "Tensor", logits: "Tensor") -> "Tensor":
        import torch

        never = -torch.inf
        if said.shape[1] == 0:
            return logits.masked_fill(self._masked_first, never)
        logits = logits.masked_fill(self._masked, never)
        if not self._timestamps:
            return logits
        text, times = logits[:, : self._first_timestamp], logits[:, self._first_timestamp :]
        is_time = said >= self._first_timestamp
        after_time = is_time[:, -1]
        opened = torch.ones_like(after_time) if said.shape[1] == 1 else is_time[:, -2]
        after_end = after_time & ~opened
        # A timestamp may be repeated only where a segment starts at the end of the last one.
        latest = torch.where(is_time, said, self._first_timestamp - 1).amax(dim=1)
        earliest = latest + (~after_end).long()
        too_early = self._times < earliest[:, None]
        times.masked_fill_(too_early | (after_time & opened)[:, None], never)
        text[:, : self._end].masked_fill_(after_end[:, None], never)
        is_timestamp = times.logsumexp(dim=1) > text.amax(dim=1)
        text.masked_fill_(is_timestamp[:, None], never)
        return logits
