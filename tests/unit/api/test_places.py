"""Places in a process: no tenant gets all of them while others may come."""

import pytest

from api.limits.places import Places
from shared.infra.errors import TooManyAtOnce


def taken(places: Places, tenant: str, n: int = 100) -> int:
    """Take as many places as the tenant gets, ``n`` at most; return their number."""
    for number in range(n):
        try:
            if not places.take(tenant):
                return number
        except TooManyAtOnce:
            return number
    return n


def test_the_default_tenant_gets_all_places_until_another_one_has_come() -> None:
    places = Places(8, "streams")
    assert taken(places, "default") == 8
    assert not places.take("default")
    assert not places.take("another")
    places.give_back("default")
    with pytest.raises(TooManyAtOnce, match="you have 7 streams, which is your share"):
        places.take("default")
    assert taken(places, "another") == 1


def test_a_tenant_gets_half_and_newcomers_find_places() -> None:
    places = Places(12, "streams")
    assert taken(places, "a") == 6
    assert taken(places, "b") == 3
    assert taken(places, "c") == 2
    assert taken(places, "d") == 1
    places.give_back("a")
    assert taken(places, "a") == 0, "it holds more than are free"
    assert taken(places, "e") == 1


def test_a_tenants_own_limit_holds_below_its_share() -> None:
    places = Places(12, "streams", lambda tenant: {"a": 2}.get(tenant, 0))
    assert taken(places, "a") == 2
    places.give_back("a")
    assert taken(places, "a") == 1
    assert places.n_held == 2


def test_the_only_place_is_anybodys() -> None:
    places = Places(1, "streams")
    assert taken(places, "a") == 1
    places.give_back("a")
    assert taken(places, "b") == 1
