"""Who a span is, as a ``traceparent`` header says it (W3C Trace Context, version 00)."""

import hashlib
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_UNKNOWN_VERSION = "ff"
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span's place: its trace, itself, and whether the trace is recorded."""

    trace_id: str
    """32 hexadecimal digits, not all zero."""
    span_id: str
    """16 hexadecimal digits, not all zero."""
    sampled: bool

    @classmethod
    def parse(cls, header: str | None) -> "TraceContext | None":
        """Read a ``traceparent``; None where it is none, which is then as good as absent.

        Later versions may have more at the end, which is not read (section 3.2.4).
        """
        found = _TRACEPARENT.fullmatch(header.strip()) if header else None
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == _UNKNOWN_VERSION or (version == "00" and more):
            return None
        if not int(trace_id, 16) or not int(span_id, 16):
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))

    @property
    def traceparent(self) -> str:
        """The header that says so."""
        return f"00-{self.trace_id}-{self.span_id}-{_SAMPLED if self.sampled else 0:02x}"


def derived_span_id(trace_id: str, *parts: int) -> str:
    """Return the id of a span of a trace that any process can tell from numbers alone.

    So a span can be named by others, and written by another process if its own one dies.
    """
    named = "/".join([trace_id, *map(str, parts)])
    return hashlib.sha256(named.encode()).hexdigest()[:16]
