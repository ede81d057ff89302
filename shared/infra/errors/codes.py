"""The codes of jobs whose audio is at fault or was not fetched."""

from collections.abc import Iterator

from shared.infra.errors.base import LonghandError
from shared.infra.errors.media import MediaError
from shared.infra.errors.outbound import AddressForbidden, FetchError, FetchFailed, OutboundFailed


def _codes(kind: type[LonghandError]) -> Iterator[str]:
    yield kind.code
    for each in kind.__subclasses__():
        yield from _codes(each)


POISONOUS = "poisonous_input"
"""The code of a step whose worker died or hung at every attempt."""

AUDIO_CODES = frozenset({POISONOUS, *_codes(MediaError)})
"""The codes of jobs whose audio is at fault."""

FETCH_CODES = frozenset(
    {FetchFailed.code, OutboundFailed.code, AddressForbidden.code, *_codes(FetchError)}
)
"""The codes of jobs whose audio could not be fetched."""
