"""The server of decoders: ``python -m worker.media.sandbox.server FD``.

It has imported FFmpeg and knows no secret: neither an environment nor an open connection. It forks
decoders ahead, so that nobody waits for a fork, and sends the other end of a decoder's socket over
FD for each byte that comes in there. A decoder tells what confines it, takes one order, does it and
ends.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

import av
import av.subtitles.codeccontext  # PyAV imports these late, and a decoder cannot
import av.subtitles.stream

from shared.speech.audio.decoded import Kind, encode_record
from worker.media.live import decode_stream
from worker.media.sandbox import linux
from worker.media.sandbox.confinement import Confinement, confine_decoder, confine_server
from worker.media.sandbox.files import decode_file, receive, warm_up

AHEAD = 2
"""Decoders that wait for an order."""
_PAUSE_MS = 20
"""Without a question, before a decoder is forked ahead while another one waits."""
_FORK_AGAIN_S = 0.1
"""The pause after a fork that failed."""
_MAX_DESCRIPTORS = 1 << 16
"""Where the system has no limit."""
_ORDERS = {"file": decode_file, "stream": decode_stream}


class Server:
    """Forks decoders and hands them over."""

    def __init__(self, control: socket.socket, confinement: Confinement) -> None:
        self._control = control
        self._confinement = confinement
        self._waiting: dict[int, socket.socket] = {}
        """Decoders that wait for an order, by pid, and the ends that are handed over."""
        self._ends: dict[int, socket.socket] = {}
        """By pid, the decoders' own ends, in which is told how one has died."""
        self._serving: dict[int, int] = {}
        """Decoders with an order: the descriptor of their own end, and the pid."""
        self._poll = select.poll()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._n_descriptors = _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
        self._woken, wakes = socket.socketpair()
        self._woken.setblocking(False)
        wakes.setblocking(False)
        self._wakes = wakes
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Serve until the last process that could ask is gone."""
        self._poll.register(self._control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        n_wanted = 0
        while True:
            # Who asks comes first. A fork ahead waits a little: it would take processor time from
            # the decoder that was just handed over.
            is_short = len(self._waiting) < AHEAD
            pause_ms = _PAUSE_MS if self._waiting and not n_wanted else 0
            ready = {fd for fd, _ in self._poll.poll(pause_ms if n_wanted or is_short else None)}
            if self._woken.fileno() in ready:
                self._woken.recv(4096)
                self._bury()
            for fd in ready & self._serving.keys():
                self._end(fd)
            if self._control.fileno() in ready:
                asked = len(self._control.recv(4096))
                if not asked:
                    return
                n_wanted += asked
            if n_wanted and self._waiting:
                self._hand_over()
                n_wanted -= 1
            elif n_wanted or (is_short and not ready):
                self._fork()

    def _hand_over(self) -> None:
        pid = next(iter(self._waiting))
        with self._waiting.pop(pid) as theirs:
            socket.send_fds(self._control, [b"\0"], [theirs.fileno()])
        own = self._ends[pid].fileno()
        self._serving[own] = pid
        self._poll.register(own, 0)  # that is: until nobody has the other end

    def _end(self, own: int) -> None:
        """End a decoder whose order nobody wants any more: a taken-over one would go on."""
        self._poll.unregister(own)
        os.kill(self._serving.pop(own), signal.SIGKILL)

    def _fork(self) -> None:
        try:
            theirs, own = socket.socketpair()
        except OSError:  # too many descriptors
            time.sleep(_FORK_AGAIN_S)
            return
        try:
            pid = os.fork()
        except OSError:  # too many processes, or too little memory
            theirs.close()
            own.close()
            time.sleep(_FORK_AGAIN_S)
            return
        if pid == 0:
            self._be_decoder(own)
        self._waiting[pid] = theirs
        self._ends[pid] = own

    def _bury(self) -> None:
        """Tell of each decoder that died of a signal."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._waiting:
                self._waiting.pop(pid).close()
                time.sleep(_FORK_AGAIN_S)  # where none can live, forking them is not all it does
            with self._ends.pop(pid) as end:
                if self._serving.pop(end.fileno(), None) is not None:
                    self._poll.unregister(end)
                if os.WIFSIGNALED(status):
                    end.setblocking(False)
                    with suppress(OSError):  # nobody listens, or much is not read yet
                        end.sendall(encode_record(Kind.DIED, bytes([os.WTERMSIG(status)])))

    def _be_decoder(self, connection: socket.socket) -> NoReturn:
        """Give up all rights, do one order, and end the process."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with suppress(OSError):  # Linux alone has it
                linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            for fd in (1, 2):  # like its input, which is the null device
                os.dup2(0, fd)
            os.closerange(3, connection.fileno())
            os.closerange(connection.fileno() + 1, self._n_descriptors)
            os.environ.clear()
            confinement = self._confinement.copy()
            confine_decoder(confinement)
            warm_up()
            told = {"holds": confinement.holds, "lacks": confinement.lacks}
            connection.sendall(json.dumps(told).encode() + b"\n")
            n_bytes = int.from_bytes(receive(connection, 4), "little")
            order: dict[str, Any] = json.loads(receive(connection, n_bytes))
            _ORDERS[order["kind"]](connection, order)
        except OSError:
            pass  # nobody wants what is decoded any more
        finally:
            os._exit(0)


def serve(fd: int) -> None:
    """Be the server."""
    av.logging.set_level(None)
    # Who stops a whole group of processes lets steps and sessions end first; then the socket ends.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    control = socket.socket(fileno=fd)
    server = Server(control, confine_server())
    warm_up()
    gc.collect()
    gc.freeze()  # a collection would write to the pages that decoders share
    server.serve()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
