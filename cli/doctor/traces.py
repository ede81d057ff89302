"""Traces: whether the collector that the environment names takes spans."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from cli.doctor.findings import Finding, good, warning
from shared.infra.settings import Settings
from shared.infra.tracing import endpoint

TRACES = "traces"


def traces(_: Settings) -> Iterator[Finding]:
    """Look at the endpoint of OpenTelemetry's variables; jobs do not depend on it."""
    if not (url := endpoint()):
        yield good(TRACES, "no collector is named, so nothing is traced (docs/tracing.md)")
        return
    try:
        from shared.infra.tracing.export import probe
    except ImportError:
        yield warning(TRACES, "a collector is named, but the extra 'otel' is not installed")
        return
    host = urlsplit(url).hostname or "the endpoint"
    if (reason := probe(url)) is None:
        yield good(TRACES, f"the collector at {host} takes spans")
    else:
        yield warning(TRACES, f"the collector at {host} takes no spans: {reason}")
