"""Postgres frozen: its kernel acknowledges what is sent to it, and nobody answers."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from sqlalchemy import Engine, text


@contextmanager
def frozen_postgres(database: Engine) -> Iterator[None]:
    """Stop all of the server's processes with SIGSTOP; let them go on afterwards."""
    with database.connect() as connection:
        backend: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    server = psutil.Process(backend).parent()
    assert server is not None
    processes = [server]
    try:
        server.send_signal(signal.SIGSTOP)  # first: it starts no further ones
        processes += server.children()
        for process in processes[1:]:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGCONT)
