"""API keys, looked up for many requests at once and remembered for a moment."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from sqlalchemy import Engine

from api.loader import Loader
from shared.infra.errors import DatabaseUnavailable
from shared.store.accounts.keys import ValidKey, find_keys, note_use

REMEMBER_S = 0.9
"""How long a key counts as valid after the look-up began. So a revoked key is refused by every
process within a second, whether or not any message reaches that process."""

_MOST_REMEMBERED = 10_000
_AT_ONCE = 200

_Unknown = LookupError
"""What a digest has that is no valid key's. Only valid keys are remembered."""


class Keys:
    """The valid keys. For use on one event loop."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        """Know none yet."""
        self._engine = engine
        self._clock = clock
        self._loader: Loader[bytes, ValidKey] = Loader(
            "keys", self._load, threads=1, at_once=_AT_ONCE
        )
        self._known: dict[bytes, tuple[float, ValidKey]] = {}

    def close(self) -> None:
        """Begin no further look-up."""
        self._loader.close()

    async def find(self, digest: bytes) -> ValidKey | None:
        """Return the valid key of a SHA-256; None if it is unknown, expired or revoked.

        Every digest that is not a remembered key's is looked up in the same way, so the time of the
        answer tells nothing of it.

        Raises:
            DatabaseUnavailable: it cannot be looked up.
        """
        now = self._clock()
        until, key = self._known.get(digest, (now, None))
        if key is not None and now < until:
            return key
        try:
            key = await self._loader.get(digest)
        except _Unknown:
            self._known.pop(digest, None)
            return None
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        left_s = REMEMBER_S if key.expires_in_s is None else min(REMEMBER_S, key.expires_in_s)
        self._known[digest] = (now + left_s, key)
        return key

    def _load(self, digests: Sequence[bytes]) -> Mapping[bytes, ValidKey | Exception]:
        found = find_keys(self._engine, digests)
        if due := [key.id for key in found.values() if key.is_use_due]:
            with suppress(DatabaseUnavailable):  # a standby, say: the keys are valid still
                note_use(self._engine, due)
        return {digest: found.get(digest) or _Unknown() for digest in digests}
