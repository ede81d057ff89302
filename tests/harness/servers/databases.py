"""Fresh databases on the tests' Postgres."""

import sqlalchemy
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import text

from harness.repository.tree import ROOT
from shared.infra.database import make_engine
from shared.infra.settings import Settings


def alembic_config(settings: Settings) -> Config:
    """Return what Alembic's commands need to migrate a database step by step."""
    found = Config(ROOT / "alembic.ini")
    url = settings.database_url.get_secret_value()
    found.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return found


def scratch_settings(servers: Settings, name: str, encoding: str = "UTF8") -> Settings:
    """Settings of a fresh, empty database on the same server."""
    url = sqlalchemy.make_url(servers.database_url.get_secret_value())
    engine = make_engine(servers).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(
            text(
                f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 "
                "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        )
    engine.dispose()
    scratch = url.set(database=name).render_as_string(hide_password=False)
    return servers.model_copy(update={"database_url": SecretStr(scratch)})
