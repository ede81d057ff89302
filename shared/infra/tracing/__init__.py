"""Traces, as OpenTelemetry means them; nothing of it is imported unless a collector is named.

``context`` says who a span is, ``spans`` is what all code uses, ``export`` records and sends. Which
spans there are is in docs/tracing.md.
"""

from shared.infra.tracing.context import TraceContext, derived_span_id
from shared.infra.tracing.spans import (
    NO_SPAN,
    Kind,
    Span,
    begin,
    begin_trace,
    child,
    current,
    span,
)
from shared.infra.tracing.start import endpoint, start, stop

__all__ = [
    "NO_SPAN",
    "Kind",
    "Span",
    "TraceContext",
    "begin",
    "begin_trace",
    "child",
    "current",
    "derived_span_id",
    "endpoint",
    "span",
    "start",
    "stop",
]
