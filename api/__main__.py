"""``python -m api``: serve until SIGTERM or SIGINT, finish the requests under way, and stop."""

import argparse
import logging
import resource
import socket
import sys
from functools import partial

import uvicorn

from api.app import create_app, drain_sessions, end_waits
from api.live.websocket import WEBSOCKETS
from api.server import Server
from shared.infra import database, logs
from shared.infra.errors import DatabaseUnavailable, DatabaseUnfit, ModelError
from shared.infra.settings import Settings, get_settings
from shared.models.catalogue import read_catalogue

log = logging.getLogger("api")

GRACE_S = 10
"""How long requests and live sessions under way may take. An upload that is cut off then leaves no
object."""

OPEN_FILES = 8192
"""Uploads, watchers of jobs and idle clients hold a connection each. Many systems allow a process
1024 open files unless it asks for more."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--host", help="address to listen on, instead of LONGHAND_LISTEN_HOST")
    parser.add_argument(
        "--port", type=int, help="port to listen on, instead of LONGHAND_LISTEN_PORT"
    )
    parser.add_argument("--fd", type=int, help="a listening socket to inherit instead")
    arguments = parser.parse_args()

    settings = get_settings()
    logs.configure(settings, "api")
    try:
        read_catalogue(settings)
    except ModelError as error:
        sys.exit(f"Error: {error}")
    _check_database(settings)
    _allow_open_files()
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.listen_host if arguments.host is None else arguments.host,
        port=settings.listen_port if arguments.port is None else arguments.port,
        timeout_graceful_shutdown=GRACE_S,
        log_config=None,
        # api.request_log logs requests, without their query strings.
        access_log=False,
        loop="uvloop",
        http="httptools",
        server_header=False,
        **WEBSOCKETS,
    )
    inherited = None if arguments.fd is None else [socket.socket(fileno=arguments.fd)]
    Server(config, partial(end_waits, app), partial(drain_sessions, app)).run(sockets=inherited)


def _allow_open_files() -> None:
    """Raise the limit of open files to ``OPEN_FILES``, or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _check_database(settings: Settings) -> None:
    """Exit if the database is unfit; if it is only unavailable, log that and serve 503s."""
    engine = database.make_engine(settings, pool_size=1)
    try:
        database.check(engine)
    except DatabaseUnfit as error:
        sys.exit(f"Error: {error}")
    except DatabaseUnavailable as error:
        log.warning("%s", error)
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
