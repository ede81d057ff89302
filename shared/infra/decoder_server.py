"""Decoders in processes without rights (``worker.media.sandbox``), from the side of who needs one.

The server of decoders is executed, not forked, so that it holds none of this process's secrets.
Processes that are forked from this one ask the same server.
"""

import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

_PROGRAM = "worker.media.sandbox.server"
_STOP_S = 5.0
"""How long the server may take to end by itself."""
_ASK_AGAIN_S = 10.0
"""A server that has died may have taken a question along."""
_ANSWER_LIMIT_S = 60.0
"""A server's start takes a fraction of a second, on a busy machine some seconds."""
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.25, 30.0
"""Before the server is started anew; the pause doubles while it dies at once."""
_STEADY_S = 10.0
_MAX_REPORT_BYTES = 4_096


class NoDecoder(OSError):
    """There is no decoder: the server does not start, or does not answer."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What confines decoders here."""

    holds: tuple[str, ...]
    lacks: Mapping[str, str]
    """By measure: why it does not hold."""

    def __str__(self) -> str:
        lacking = "; ".join(f"{name}: {why}" for name, why in self.lacks.items())
        return f"{', '.join(self.holds) or 'nothing'} holds{f'; without {lacking}' * bool(lacking)}"


class DecoderServer:
    """The server of decoders, which is started once and anew whenever it has died."""

    def __init__(self, program: str = _PROGRAM) -> None:
        """``program``: the module to run."""
        self._program = program
        self._ours, self._theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._owner: int | None = None
        """The process that has started the server."""
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._closing = threading.Event()
        self._is_told = False

    @property
    def pid(self) -> int | None:
        """Of the server; None before it is started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server, unless this process or the one that it was forked from has."""
        with self._lock:
            if self._owner is None:
                self._owner = os.getpid()
                self._execute()
                self._keeper = threading.Thread(target=self._keep, name="decoders", daemon=True)
                self._keeper.start()

    def open(self, order: Mapping[str, Any]) -> socket.socket:
        """Give a decoder its order; return the socket that it reads and writes.

        Raises:
            NoDecoder: there is none.
        """
        connection, _ = self._connect()
        line = json.dumps(order).encode()
        # Should the decoder die this moment, the socket's end says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(len(line).to_bytes(4, "little") + line)
        return connection

    def sandbox(self) -> Sandbox:
        """Return what confines decoders.

        Raises:
            NoDecoder: there is none.
        """
        connection, report = self._connect()
        connection.close()
        return report

    def close(self) -> None:
        """End the server, in the process that has started it, and its decoders."""
        with self._lock:
            if self._owner != os.getpid() or self._closing.is_set():
                return
            self._closing.set()
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        assert self._process is not None
        assert self._keeper is not None
        self._keeper.join(_STOP_S)
        self._process.kill()
        self._keeper.join()
        self._ours.close()
        self._theirs.close()

    def _execute(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._program, str(self._theirs.fileno())],
            pass_fds=[self._theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={
                # It finds what this process finds, and is told none of its secrets.
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                # Its decoders may start no threads.
                "OPENBLAS_NUM_THREADS": "1",
            },
            # Signals to this process's group do not reach it, as steps and sessions drain first.
            start_new_session=True,
        )

    def _keep(self) -> None:
        """Start the server anew whenever it has died."""
        pause_s = _FIRST_PAUSE_S
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = self._process.wait()
            if time.monotonic() - started >= _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            if self._closing.is_set():
                return
            log.warning("the server of decoders has ended (%d) and is started anew", code)
            if self._closing.wait(pause_s):
                return
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
            with self._lock:
                if not self._closing.is_set():
                    self._execute()

    def _connect(self) -> tuple[socket.socket, Sandbox]:
        """Return a decoder that waits for its order, and what confines it."""
        self.start()
        deadline = time.monotonic() + _ANSWER_LIMIT_S
        while time.monotonic() < deadline and not self._closing.is_set():
            self._ours.sendall(b"\0")
            connection = self._receive(min(deadline, time.monotonic() + _ASK_AGAIN_S))
            if connection is None:
                continue
            connection.settimeout(_ASK_AGAIN_S)
            report = _report(connection)
            if report is None or _has_ended(connection):  # it has died while it waited
                connection.close()
                continue
            connection.settimeout(None)
            self._tell(report)
            return connection, report
        raise NoDecoder("the server of decoders does not answer")

    def _receive(self, deadline: float) -> socket.socket | None:
        """Return the socket of a decoder; None if no answer comes in time."""
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        while (left_s := deadline - time.monotonic()) > 0 and not self._closing.is_set():
            if not poll.poll(1000 * left_s):
                return None
            try:
                # Processes that share the socket may have taken what was there.
                flags = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
                data, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1, flags)
            except BlockingIOError:
                continue
            if descriptors:
                return socket.socket(fileno=descriptors[0])
            if not data:
                return None
        return None

    def _tell(self, report: Sandbox) -> None:
        """Log, once in the process that has started the server, what confines decoders."""
        if self._is_told or self._owner != os.getpid():
            return
        self._is_told = True
        log.log(logging.WARNING if report.lacks else logging.INFO, "media sandbox: %s", report)


def _report(connection: socket.socket) -> Sandbox | None:
    """Read what a decoder says of itself; nothing else comes before its order."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            data = connection.recv(_MAX_REPORT_BYTES)
            if not data or len(line) > _MAX_REPORT_BYTES:
                return None
            line += data
    except (ConnectionResetError, TimeoutError):
        return None
    told = json.loads(line)
    return Sandbox(tuple(told["holds"]), told["lacks"])


def _has_ended(connection: socket.socket) -> bool:
    """Return whether a decoder that waits for its order has died; otherwise it says nothing."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


@cache
def decoder_server() -> DecoderServer:
    """Return this process's server of decoders; it starts with the first that is asked for."""
    return DecoderServer()
