"""The first administrator's key of a stack."""

from pydantic import SecretStr

from shared.infra.settings import get_settings


def make_first_key(database_url: str) -> str | None:
    """Make a key that opens everything, if there is no key yet; None: there is one.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    # Imported here: SQLAlchemy takes 0.3 s, and a stack on loopback makes no key.
    from shared.infra.database import make_engine
    from shared.store.accounts import DEFAULT_TENANT
    from shared.store.accounts.keys import create_key, list_keys
    from shared.store.accounts.scopes import ALL_SCOPES

    settings = get_settings().model_copy(update={"database_url": SecretStr(database_url)})
    engine = make_engine(settings, pool_size=1)
    try:
        if list_keys(engine):
            return None
        return create_key(engine, DEFAULT_TENANT, "first administrator", ALL_SCOPES)[1]
    finally:
        engine.dispose()
