"""Spans: begun, made current, ended. Without a tracer they only pass on who their parent is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from typing import Protocol

from shared.infra.tracing.context import TraceContext

Value = str | bool | int | float
Attributes = Mapping[str, Value | None]
"""By OpenTelemetry's semantic conventions where they have a name, else ``longhand.*``. Neither
transcripts nor secrets nor query strings. What is None is left out."""


class Kind(IntEnum):
    """What a span is to others; numbered as OpenTelemetry's API does."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Span:
    """A span that records nothing; ``export`` has the one that does. Any thread may use it."""

    is_recording = False

    def __init__(self, context: TraceContext | None) -> None:
        self.context = context
        """What children have as their parent; None: there is no trace."""

    @property
    def traceparent(self) -> str | None:
        """The header that names the span; None: there is no trace."""
        return None if self.context is None else self.context.traceparent

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""

    def link(self, other: TraceContext | None) -> None:
        """Say that it has to do with a span that is not its parent."""

    def end(self, error: Exception | str | None = None, *, at_s: float | None = None) -> None:
        """End it, now or at a time in seconds since 1970; only the first end counts.

        Of an error its ``code`` is recorded, or its class, as its text may be anybody's.
        """

    @contextmanager
    def active(self) -> Iterator["Span"]:
        """Make it the current span of the block, and of tasks that are begun in it."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)


NO_SPAN = Span(None)
"""Of what belongs to no trace."""


class Tracer(Protocol):
    """Begins spans that are recorded, as ``begin``, which documents the parameters."""

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: TraceContext | None,
        attributes: Attributes,
        links: Sequence[TraceContext],
        span_id: str | None,
        at_s: float | None,
    ) -> Span: ...

    def close(self) -> None:
        """Send what has ended, for a few seconds at most."""


_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> Tracer | None:
    """Have spans recorded by a tracer, or by none; return the one before."""
    global _tracer
    before, _tracer = _tracer, tracer
    return before


def current() -> Span:
    """Return the span that the caller works for."""
    return _current.get()


def begin(
    name: str,
    kind: Kind = Kind.INTERNAL,
    *,
    parent: TraceContext | None,
    attributes: Attributes | None = None,
    links: Sequence[TraceContext] = (),
    span_id: str | None = None,
    at_s: float | None = None,
) -> Span:
    """Begin a span; without a parent, a trace.

    Args:
        name: the same for all that is done in the same way.
        kind: what it is to others.
        parent: its parent, in this process or another.
        attributes: what is known of it now.
        links: spans that it has to do with.
        span_id: its id, where that must be known elsewhere (``derived_span_id``).
        at_s: when it began, in seconds since 1970; None: now.
    """
    if _tracer is None:
        return NO_SPAN if parent is None else Span(parent)
    return _tracer.begin(
        name,
        kind,
        parent=parent,
        attributes=attributes or {},
        links=links,
        span_id=span_id,
        at_s=at_s,
    )


def begin_trace(
    name: str,
    kind: Kind = Kind.INTERNAL,
    *,
    links: Sequence[TraceContext],
    attributes: Attributes | None = None,
) -> Span:
    """Begin a trace that is recorded if one of the linked spans is.

    Without a tracer the first of these stands for it.
    """
    if _tracer is None:
        return begin(name, kind, parent=links[0] if links else None)
    return begin(name, kind, parent=None, attributes=attributes, links=links)


@contextmanager
def span(
    name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None
) -> Iterator[Span]:
    """Have the block be a child of the current span, or a trace; an exception is its error."""
    with _ended(begin(name, kind, parent=current().context, attributes=attributes)) as begun:
        yield begun


@contextmanager
def child(
    name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None
) -> Iterator[Span]:
    """Have the block be a child of the current span if that is recorded, else nothing."""
    parent = current()
    if not parent.is_recording:
        yield parent
        return
    with _ended(begin(name, kind, parent=parent.context, attributes=attributes)) as begun:
        yield begun


@contextmanager
def _ended(begun: Span) -> Iterator[Span]:
    with begun.active():
        try:
            yield begun
        except Exception as error:
            begun.end(error)
            raise
        finally:
            begun.end()
