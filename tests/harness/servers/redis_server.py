"""A Redis of a test's own, to be killed and started again on the same port."""

import subprocess
from pathlib import Path

import redis

from cli.embedded import valkey
from cli.embedded.ports import free_ports
from harness.programs.workers import wait_until


class RedisServer:
    """The server; it keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        port = free_ports(1)[0]
        self.url = f"redis://:secret@127.0.0.1:{port}/0"
        self._program = valkey.program(directory, port, "secret")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._program.command, env=dict(self._program.env), stdout=subprocess.DEVNULL
        )
        wait_until(self._program.is_ready)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)
