"""``python -m api``: serve until SIGTERM or SIGINT, finish the requests under way, and stop."""

import argparse
import logging
import socket
import sys
from functools import partial

from api.allocator import bound_allocator
from api.app import create_app, drain_sessions, end_waits
from api.server import Server, server_config
from shared.infra import database, logs, schema
from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit, InvalidSetting, ModelError
from shared.infra.open_files import allow_open_files
from shared.infra.settings import Settings, get_settings
from shared.models.catalogue import read_catalogue

log = logging.getLogger("api")

GRACE_S = 10
"""How long requests and live sessions under way may take. An upload that is cut off then leaves no
object."""

OWN_FILES = 192
"""Descriptors for what is not a client's: connections to Postgres, Redis and the object store,
logs, and connections that are accepted before others are closed for them."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", help="address to listen on, instead of LONGHAND_LISTEN_HOST")
    parser.add_argument(
        "--port", type=int, help="port to listen on, instead of LONGHAND_LISTEN_PORT"
    )
    parser.add_argument("--fd", type=int, help="a listening socket to inherit instead")
    arguments = parser.parse_args()

    bound_allocator()
    try:
        settings = get_settings()
    except InvalidSetting as error:
        sys.exit(f"Error: {error}")
    logs.configure(settings, "api")
    try:
        read_catalogue(settings)
    except ModelError as error:
        sys.exit(f"Error: {error}")
    listener = None if arguments.fd is None else socket.socket(fileno=arguments.fd)
    host = settings.listen_host if arguments.host is None else arguments.host
    settings = _decide_about_keys(settings, listener.getsockname()[0] if listener else host)
    _check_database(settings)
    n_files = allow_open_files()
    app = create_app(settings)
    config = server_config(
        app,
        grace_s=GRACE_S,
        host=host,
        port=settings.listen_port if arguments.port is None else arguments.port,
    )
    server = Server(
        config,
        partial(end_waits, app),
        partial(drain_sessions, app),
        max_connections=max_connections(n_files, settings.live_max_sessions),
    )
    server.run(sockets=None if listener is None else [listener])


def _decide_about_keys(settings: Settings, host: str) -> Settings:
    """Return the settings with ``auth`` on or off; exit if strangers would be let in."""
    try:
        return settings.model_copy(update={"auth": "on" if settings.asks_for_keys(host) else "off"})
    except InvalidSetting as error:
        sys.exit(f"Error: {error}")


def max_connections(n_files: int, n_sessions: int) -> int:
    """Return how many connections leave enough of ``n_files`` descriptors to everything else.

    Each live session may have a decoder, which is reached through a socket.
    """
    return max(n_files // 2, n_files - OWN_FILES - n_sessions)


def _check_database(settings: Settings) -> None:
    """Exit if the database is unfit; if it is only unavailable, log that and serve 503s."""
    engine = database.make_engine(settings, pool_size=1)
    try:
        schema.check(engine)
    except DatabaseUnfit as error:
        sys.exit(f"Error: {error}")
    except DatabaseUnavailable as error:
        log.warning("%s", error)
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
