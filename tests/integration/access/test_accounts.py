"""Tenants and keys in the database."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from cli.embedded.first_key import make_first_key
from shared.infra.api_keys import digest_of, make_key
from shared.infra.errors import InvalidRequest, KeyNotFound, TenantExists, TenantNotFound
from shared.infra.settings import Settings
from shared.store.accounts import DEFAULT_TENANT
from shared.store.accounts.keys import create_key, find_keys, list_keys, note_use, revoke_key
from shared.store.accounts.scopes import ALL_SCOPES, Scope
from shared.store.accounts.tenants import create_tenant, list_tenants


def test_a_tenant_is_created_once_and_the_default_one_exists(database: Engine) -> None:
    create_tenant(database, "acme", "Acme Ltd")
    with pytest.raises(TenantExists):
        create_tenant(database, "acme", "Another")
    assert [each.id for each in list_tenants(database)] == ["acme", DEFAULT_TENANT]


@pytest.mark.parametrize("wrong", ["", "*", "Acme", "a b", "-a", "a" * 64, "a\n"])
def test_a_tenants_id_is_short_and_plain(database: Engine, wrong: str) -> None:
    with pytest.raises(InvalidRequest):
        create_tenant(database, wrong, "Acme Ltd")


def test_a_key_is_found_by_its_digest_alone_and_never_stored(database: Engine) -> None:
    create_tenant(database, "acme", "Acme Ltd")
    view, key = create_key(database, "acme", "laptop", {Scope.LIVE, Scope.JOBS_READ})
    (found,) = find_keys(database, [digest_of(key), digest_of(make_key())]).values()
    assert (found.id, found.tenant) == (view.id, "acme")
    assert found.scopes == {"jobs:read", "live"}
    with database.begin() as connection:
        row = connection.execute(text("SELECT api_keys::text FROM api_keys")).scalar_one()
    assert key not in row
    assert digest_of(key).hex() in row


def test_keys_of_unknown_tenants_are_not_made(database: Engine) -> None:
    with pytest.raises(TenantNotFound):
        create_key(database, "nobody", "x", ALL_SCOPES)


def test_a_revoked_or_expired_key_is_not_found_while_another_of_its_tenant_is(
    database: Engine,
) -> None:
    old, old_key = create_key(database, DEFAULT_TENANT, "old", ALL_SCOPES)
    _, new_key = create_key(database, DEFAULT_TENANT, "new", ALL_SCOPES, expires_in_s=3600)
    _, gone_key = create_key(database, DEFAULT_TENANT, "gone", ALL_SCOPES, expires_in_s=-1)
    digests = [digest_of(key) for key in (old_key, new_key, gone_key)]
    assert set(find_keys(database, digests)) == set(digests[:2])
    revoked = revoke_key(database, old.id)
    found = find_keys(database, digests)
    assert set(found) == {digests[1]}
    assert 3590 < (found[digests[1]].expires_in_s or 0) <= 3600
    assert revoke_key(database, old.id).revoked_at == revoked.revoked_at
    with pytest.raises(KeyNotFound):
        revoke_key(database, uuid4())


def test_the_last_use_is_due_once_a_minute(database: Engine) -> None:
    view, key = create_key(database, DEFAULT_TENANT, "x", ALL_SCOPES)
    digest = digest_of(key)
    assert find_keys(database, [digest])[digest].is_use_due
    note_use(database, [view.id])
    assert not find_keys(database, [digest])[digest].is_use_due
    with database.begin() as connection:
        connection.execute(
            text("UPDATE api_keys SET last_used_at = last_used_at - :age"),
            {"age": timedelta(seconds=61)},
        )
    assert find_keys(database, [digest])[digest].is_use_due
    (listed,) = list_keys(database, DEFAULT_TENANT)
    assert listed.last_used_at is not None


def test_the_first_key_opens_everything_and_is_made_once(
    settings: Settings, database: Engine
) -> None:
    url = settings.database_url.get_secret_value()
    key = make_first_key(url)
    assert key is not None
    found = find_keys(database, [digest_of(key)])[digest_of(key)]
    assert (found.tenant, found.scopes) == (DEFAULT_TENANT, ALL_SCOPES)
    assert make_first_key(url) is None
    revoke_key(database, found.id)
    assert make_first_key(url) is None


@pytest.mark.parametrize("wrong", ["", "two\nlines", "x" * 201])
def test_a_name_is_a_line_for_people(database: Engine, wrong: str) -> None:
    with pytest.raises(InvalidRequest):
        create_tenant(database, "acme", wrong)
    with pytest.raises(InvalidRequest):
        create_key(database, DEFAULT_TENANT, wrong, ALL_SCOPES)
