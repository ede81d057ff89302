"""How large a batch may be, in windows, by what has fitted into the device's memory so far."""

GROW_AFTER = 4
"""Full batches that must fit before the limit doubles."""
RETRY_AFTER = 16
"""The same if the doubled size has failed before: a failed call costs up to a batch's time."""


class BatchLimit:
    """The most windows in one engine call; short items share a window.

    A batch that does not fit halves the limit. After ``GROW_AFTER`` full batches that fit, the
    limit doubles, up to its first value; after ``RETRY_AFTER`` if that size has failed before.
    """

    def __init__(self, largest: int) -> None:
        self.size = largest
        self._largest = largest
        self._too_large: int | None = None
        self._n_fitted = 0

    def failed(self, n_items: int) -> None:
        """A batch of ``n_items`` windows, and of two items at least, did not fit."""
        self.size = max(1, n_items // 2)
        self._too_large = n_items
        self._n_fitted = 0

    def fitted(self, n_items: int) -> None:
        """A batch of ``n_items`` windows fitted."""
        if self._too_large is not None and n_items >= self._too_large:
            self._too_large = None
        if n_items < self.size or self.size == self._largest:
            return
        self._n_fitted += 1
        larger = min(2 * self.size, self._largest)
        has_failed = self._too_large is not None and larger >= self._too_large
        if self._n_fitted >= (RETRY_AFTER if has_failed else GROW_AFTER):
            self.size = larger
            self._n_fitted = 0
