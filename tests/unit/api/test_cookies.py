"""Cookies of the page, among those of whatever else runs on the machine."""

import pytest
from starlette.datastructures import Headers

from api.access.cookies import cookie_in


@pytest.mark.parametrize(
    "sent",
    [
        "longhand_session=token",
        'theme={"dark": true}; longhand_session=token',
        "two words=1; longhand_session=token",
        "longhand_session=token; at@sign=1",
        "list[0]=1; longhand_session=token; flag",
        "\xe9=\xff; longhand_session=token",
    ],
)
def test_a_cookie_is_found_whatever_cookies_others_have_set(sent: str) -> None:
    headers = Headers(raw=[(b"cookie", sent.encode("latin-1"))])
    assert cookie_in(headers, "longhand_session") == "token"
    assert cookie_in(headers, "longhand_share") == ""
    assert cookie_in(Headers(), "longhand_session") == ""
