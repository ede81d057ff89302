"""Spans that are recorded and sent by OTLP over HTTP; the sole importer of OpenTelemetry.

They are sent by a thread, from a queue that drops what does not fit, so a collector that is slow or
gone delays nothing. ``OTEL_*`` variables of the SDK apply: sampler, limits, resource, headers.
"""

import os
import ssl
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace

import httpx
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_CERTIFICATE,
    OTEL_EXPORTER_OTLP_HEADERS,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.re import parse_env_headers
from opentelemetry.util.types import Attributes as TheirAttributes

from shared import __version__
from shared.infra.errors import LonghandError
from shared.infra.tracing.context import TraceContext
from shared.infra.tracing.spans import Attributes, Kind, Span

LAST_S = 2.0
"""How long the end of a process waits for its last spans to be sent."""

PROBE_S = 3.0
"""How long a collector may take to answer ``probe``."""

_KINDS = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
}

_chosen_id: ContextVar[str | None] = ContextVar("span_id", default=None)


class OpenTelemetry:
    """The tracer of this process (``spans.Tracer``)."""

    def __init__(self, service: str, instance: str) -> None:
        """Start the thread that sends."""
        ours = Resource(
            {
                "service.namespace": "longhand",
                "service.name": f"longhand-{service}",
                "service.version": __version__,
                "service.instance.id": instance,
                "process.pid": os.getpid(),
            }
        )
        provider = TracerProvider(
            resource=Resource.create().merge(ours).merge(OTELResourceDetector().detect()),
            id_generator=_Ids(),
            shutdown_on_exit=False,
        )
        provider.sampler = _WithLinked(provider.sampler)
        self._provider = provider
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("longhand", __version__)

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
    ) -> Span:
        """Begin a span, which is recorded if its trace is sampled."""
        around = trace.set_span_in_context(
            trace.INVALID_SPAN if parent is None else trace.NonRecordingSpan(_theirs(parent))
        )
        token = _chosen_id.set(span_id)
        try:
            begun = self._tracer.start_span(
                name,
                context=around,
                kind=_KINDS[kind],
                attributes=_known(attributes),
                links=[Link(_theirs(link)) for link in links],
                start_time=_ns(at_s),
            )
        finally:
            _chosen_id.reset(token)
        if not begun.is_recording():
            return Span(replace(parent or _ours(begun), sampled=False))
        return _Recorded(begun)

    def close(self) -> None:
        """Send what has ended; give up after ``LAST_S``."""
        # The SDK would wait for half a minute.
        sender = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sender.start()
        sender.join(LAST_S)


def probe(url: str) -> str | None:
    """Send no spans to an endpoint; return why it takes none, None if it does."""
    headers = parse_env_headers(os.environ.get(OTEL_EXPORTER_OTLP_HEADERS, ""), liberal=True)
    certificates = os.environ.get(OTEL_EXPORTER_OTLP_CERTIFICATE)
    try:
        answer = httpx.post(
            url,
            content=b"",  # an ExportTraceServiceRequest without a field
            headers={**headers, "Content-Type": "application/x-protobuf"},
            timeout=PROBE_S,
            verify=ssl.create_default_context(cafile=certificates) if certificates else True,
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return f"it cannot be reached ({type(error).__name__})"
    return None if answer.is_success else f"it answers {answer.status_code}"


class _Recorded(Span):
    """A span of the SDK."""

    is_recording = True

    def __init__(self, span: trace.Span) -> None:
        super().__init__(_ours(span))
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(_known(attributes) or {})

    def link(self, other: TraceContext | None) -> None:
        if other is not None:
            self._span.add_link(_theirs(other))

    def end(self, error: Exception | str | None = None, *, at_s: float | None = None) -> None:
        if not self._span.is_recording():
            return
        if error is not None:
            kind = error if isinstance(error, str) else _kind(error)
            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(_ns(at_s))


class _Ids(RandomIdGenerator):
    """Random ids, but where a span's is chosen."""

    def generate_span_id(self) -> int:
        """Return the next span's id."""
        chosen = _chosen_id.get()
        return super().generate_span_id() if chosen is None else int(chosen, 16)


class _WithLinked(Sampler):
    """Samples a trace that begins with links if one of the linked spans is sampled.

    So whoever sees a job's trace finds the batches that its chunks were in.
    """

    def __init__(self, others: Sampler) -> None:
        """``others`` decides about all other spans."""
        self._others = others

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: TheirAttributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        """Return whether a span is recorded."""
        decides = self._others
        is_root = not trace.get_current_span(parent_context).get_span_context().is_valid
        if links and is_root:
            is_sampled = any(each.context.trace_flags.sampled for each in links)
            decides = ALWAYS_ON if is_sampled else ALWAYS_OFF
        return decides.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        """Return its name."""
        return f"WithLinked{{{self._others.get_description()}}}"


def _ours(span: trace.Span) -> TraceContext:
    context = span.get_span_context()
    return TraceContext(
        f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled
    )


def _theirs(context: TraceContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT),
    )


def _known(attributes: Attributes) -> dict[str, str | bool | int | float]:
    return {name: value for name, value in attributes.items() if value is not None}


def _kind(error: Exception) -> str:
    return error.code if isinstance(error, LonghandError) else type(error).__name__


def _ns(at_s: float | None) -> int | None:
    return None if at_s is None else int(at_s * 1e9)
