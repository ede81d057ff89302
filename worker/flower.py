"""Flower, Celery's monitor, behind a login or on loopback only."""

import ipaddress
import signal
import sys

import click
from celery import Celery
from kombu.entity import Queue

from shared.infra.settings import FLOWER_USER, Settings
from shared.store.queues import (
    CPU_QUEUE,
    DELIVER_QUEUE,
    FETCH_QUEUE,
    LARGE_QUEUE,
    LISTEN_QUEUE,
)

LOOPBACK = "127.0.0.1"
REFRESH_MS = 5_000
"""How often workers are asked for their queues; Flower itself asks only when it starts."""
PURGE_S = 600
"""How long a dead worker is shown; a restarted one has a new name."""


def secure_flower(settings: Settings) -> None:
    """Set Flower's address and login unless its own options do; call it after they are read.

    Raises:
        SystemExit: it would be open to the network without a login. Celery, which calls this in a
            signal handler, would only log another exception.
    """
    from flower.options import options

    options.address = options.address or LOOPBACK
    if password := settings.flower_password.get_secret_value():
        options.basic_auth = [f"{FLOWER_USER}:{password}"]
    has_login = options.basic_auth or options.auth
    if not (has_login or options.unix_socket or _is_loopback(options.address)):
        raise SystemExit(
            f"Error: Flower does not listen on {options.address} without a password: "
            "set LONGHAND_FLOWER_PASSWORD"
        )


def serve_flower(app: Celery, *, address: str, port: int, sweep_queue: str) -> None:
    """Serve Flower until SIGTERM or SIGINT; ``FLOWER_...`` variables set all its other options.

    Raises:
        click.ClickException: it cannot listen there.
        SystemExit: it must not listen there without a login.
    """
    from flower.app import Flower
    from flower.command import apply_env_options, extract_settings, setup_logging
    from flower.options import options
    from flower.urls import settings as web
    from tornado.ioloop import PeriodicCallback

    apply_env_options()
    options.address, options.port = address, port
    if options.purge_offline_workers is None:
        options.purge_offline_workers = PURGE_S
    # The broker page lists these until a worker has reported its queues.
    app.conf.task_default_queue = CPU_QUEUE
    others = (LARGE_QUEUE, FETCH_QUEUE, LISTEN_QUEUE, DELIVER_QUEUE, sweep_queue)
    app.conf.task_queues = [Queue(name) for name in others]  # type: ignore[no-untyped-call]
    extract_settings()
    setup_logging()
    monitor = Flower(capp=app, options=options, **web)
    try:
        monitor.start_http_server()
    except OSError as error:
        raise click.ClickException(
            f"cannot serve Flower on {address}:{port}: {error.strerror}"
        ) from error
    PeriodicCallback(monitor.update_workers, REFRESH_MS).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        monitor.start()
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        monitor.stop()


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
