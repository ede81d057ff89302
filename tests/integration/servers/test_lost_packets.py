"""Statements whose answers the network loses, on hosts of their own (``harness.servers.hosts``)."""

import os
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text

from harness.programs.workers import wait_until
from harness.servers.api_server import Relay
from harness.servers.hosts import Host, NoHosts, Way, Wire, hosts
from shared.infra import database as postgres
from shared.infra.database import make_engine, read
from shared.infra.driver import driver_of
from shared.infra.errors import DatabaseUnavailable
from shared.infra.settings import Settings

BACK_S = 20.0
"""What docs/faults.md promises: so long after the network is back a worker claims steps again."""
KEPT_S = 15
"""And so long a session whose client is gone keeps its row locks."""
QUICK_MS, QUICK_S = 2_000, 1
"""In the places of a timeout of 15 s and an interval of 5."""


@dataclass(frozen=True, slots=True)
class Distant:
    """A client on another host than Postgres."""

    engine: Engine
    host: Host
    wire: Wire

    def select(self, expression: str) -> object:
        """Return the value of an expression, asked from there."""
        with self.host.inside(), read(self.engine) as connection:
            return connection.execute(text(f"SELECT {expression}")).scalar_one()

    def is_all_acknowledged(self) -> bool:
        """Return whether the servers' host has acknowledged all that was sent from there."""
        with self.host.inside():
            lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        # The fifth field of a line is the length of the queue of what was sent, and of the other.
        return all(int(line.split()[4].partition(":")[0], 16) == 0 for line in lines)


@contextmanager
def distant(settings: Settings) -> Iterator[Distant]:
    """Make two hosts, and lead connections to the one to Postgres."""
    url = make_url(settings.database_url.get_secret_value())
    assert url.port is not None
    try:
        with hosts(1, random.Random(0)) as (centre, [(host, wire)]):
            with centre.inside():
                listener = socket.create_server((centre.address, 0))
            relay = Relay(url.port, listener)
            there = url.set(host=centre.address, port=relay.port)
            secret = SecretStr(there.render_as_string(hide_password=False))
            engine = make_engine(settings.model_copy(update={"database_url": secret}))
            try:
                yield Distant(engine, host, wire)
            finally:
                relay.cut()
                engine.dispose()
    except NoHosts as error:
        pytest.skip(f"no network namespaces: {error}")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_TCP_USER_TIMEOUT_MS", QUICK_MS)
    monkeypatch.setattr(postgres, "_KEEPALIVE_S", QUICK_S)


@pytest.mark.usefixtures("quick")
def test_an_answer_that_is_lost_after_its_statement_was_acknowledged_is_not_awaited(
    settings: Settings, database: Engine
) -> None:
    def is_asked() -> bool:
        return bool(count_sleepers(database)) and client.is_all_acknowledged()

    with distant(settings) as client, ThreadPoolExecutor(1) as thread:
        client.select("1")
        answer = thread.submit(client.select, "pg_sleep(1)::text")
        wait_until(is_asked)
        client.wire.out = Way(loss=1.0)
        try:
            assert count_sleepers(database), "the answer was not sent yet"
            with pytest.raises(DatabaseUnavailable):
                answer.result(timeout=BACK_S)
        finally:
            client.wire.mend()
        assert client.select("2") == 2


@pytest.mark.usefixtures("quick")
def test_a_statement_that_takes_longer_than_a_silent_network_may_is_answered(
    settings: Settings,
) -> None:
    with distant(settings) as client:
        assert client.select("pg_sleep(3)::text || 'rested'") == "rested"


def test_a_silent_network_is_noticed_in_time_whatever_a_connection_waits_for(
    settings: Settings,
) -> None:
    engine = make_engine(settings)
    with read(engine) as connection:
        connected = socket.socket(fileno=os.dup(driver_of(connection).pgconn.socket))
    with connected:
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        kept_ms = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        idle_s, interval_s = (
            connected.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
        )
    engine.dispose()
    # The kernel looks whether it has been silent for so long only when it asks again.
    assert max(kept_ms / 1000, idle_s) + interval_s <= BACK_S


def test_a_server_soon_ends_a_session_whose_client_is_gone_within_a_statement(
    settings: Settings,
) -> None:
    """Postgres answers SHOW with what its socket has."""
    engine = make_engine(settings)
    with read(engine) as connection:
        idle_s, interval_s, count = (
            int(connection.execute(text(f"SHOW tcp_keepalives_{name}")).scalar_one())
            for name in ("idle", "interval", "count")
        )
    engine.dispose()
    assert idle_s + interval_s * count <= KEPT_S


def count_sleepers(database: Engine) -> int:
    """Return how many statements sleep on the server now."""
    with read(database) as connection:
        counted = text("""
            SELECT count(*) FROM pg_stat_activity
            WHERE state = 'active' AND wait_event = 'PgSleep'
        """)
        return int(connection.execute(counted).scalar_one())
