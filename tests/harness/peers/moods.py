"""Webhook receivers of every mood, and what each of them has taken."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from harness.faults import history
from harness.peers.receivers import Received, Receiver, Reply, receiving


class MoodyReceiver(Receiver):
    """Answers the first request of every event with ``first``, and takes what comes again."""

    first: Reply = Reply()

    def __init__(self, host: str, first: Reply) -> None:
        super().__init__(host, 0, None)
        self.first = first
        self.taken: list[history.Received] = []

    def _take(self, request: Received) -> Reply:
        again = any(seen.id == request.id for seen in list(self.requests))
        reply = super()._take(request)
        if not again:
            if self.first.hang:
                self._released.wait()
            reply = self.first
        if 200 <= reply.status < 300:
            self.taken.append(history.Received(request.id, request.body.decode()))
        return reply


@dataclass(slots=True)
class Moods:
    """The URLs of the receivers."""

    kind: str
    slow: str
    """Fails at first."""
    hanging: str
    """Says nothing at first."""
    refusing: str
    redirecting: str
    receivers: list[MoodyReceiver] = field(default_factory=list)

    @property
    def deaf(self) -> frozenset[str]:
        """The URLs at which nothing is ever taken."""
        return frozenset({self.refusing, self.redirecting})

    def taken(self) -> list[history.Received]:
        """Return what was answered with 2xx, wherever."""
        return [request for receiver in self.receivers for request in receiver.taken]


@contextmanager
def moods(host: str = "127.0.0.1") -> Iterator[Moods]:
    """Run one receiver of each mood, at an address of this host."""
    with ExitStack() as stack:
        kind = MoodyReceiver(host, Reply())
        slow = MoodyReceiver(host, Reply(500))
        # It is silent for longer than anybody waits, and its reply is not a success.
        hanging = MoodyReceiver(host, Reply(500, hang=True))
        for receiver in (kind, slow, hanging):
            stack.callback(receiver.close)
        target = stack.enter_context(receiving(host=host))
        redirecting = stack.enter_context(
            receiving(Reply(302, {"Location": target.url}), host=host)
        )
        # Bound, and not listening: whoever connects is refused.
        refusing = stack.enter_context(socket.socket())
        refusing.bind((host, 0))
        yield Moods(
            kind.url,
            slow.url,
            hanging.url,
            f"http://{host}:{refusing.getsockname()[1]}/hook",
            redirecting.url,
            [kind, slow, hanging],
        )
        assert target.requests == [], "a redirection was followed"
