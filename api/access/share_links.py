"""Share links, as browsers bring them: a cookie that is sent with requests for one job alone.

The token stands in a link's fragment, which no browser sends, so no server's or proxy's log and no
Referer header has it. The page hands it over in a body, and gets it back as a cookie that scripts
cannot read. Its path is the job's, so several links may be open at once.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine
from starlette.datastructures import Headers

from api.access.cookies import cookie_in
from api.loader import Loader
from shared.infra.api_keys import digest_of
from shared.infra.errors import ShareLinkNotFound
from shared.store.share_links import Shared, find_share_links

COOKIE = "longhand_share"
COOKIE_S = 12 * 3600
"""The cookie's longest life; the link sets it again."""
_AT_ONCE = 200
_NOT_VALID = "this link was never made, has expired or was revoked"


class ShareLinks:
    """The valid share links, looked up anew by each request. For use on one event loop."""

    def __init__(self, engine: Engine) -> None:
        """Look nothing up yet."""
        self._engine = engine
        self._loader: Loader[bytes, Shared] = Loader(
            "share-links", self._load, threads=1, at_once=_AT_ONCE
        )

    def close(self) -> None:
        """Begin no further look-up."""
        self._loader.close()

    async def find(self, token: str) -> Shared:
        """Return what a link opens.

        Raises:
            ShareLinkNotFound: it was never made, has expired or was revoked.
            DatabaseUnavailable: it cannot be looked up.
        """
        return await self._loader.get(digest_of(token))

    def _load(self, digests: Sequence[bytes]) -> Mapping[bytes, Shared | Exception]:
        found = find_share_links(self._engine, digests)
        return {digest: found.get(digest) or ShareLinkNotFound(_NOT_VALID) for digest in digests}


def share_in(headers: Headers) -> str:
    """Return the token of the share link with which a request comes; "" if there is none."""
    return cookie_in(headers, COOKIE)
