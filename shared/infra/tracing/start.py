"""Whether this process traces: OpenTelemetry's own variables say where spans go."""

import logging
import os
from urllib.parse import urlsplit

from shared.infra.tracing import spans

log = logging.getLogger(__name__)

_PROTOCOL = "http/protobuf"


def endpoint() -> str:
    """Return the URL that spans are sent to; empty: nothing is traced.

    As OpenTelemetry's specification has it: ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` is the URL, and
    ``OTEL_EXPORTER_OTLP_ENDPOINT`` is what ``/v1/traces`` is below of.
    """
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        return ""
    if _variable("OTEL_TRACES_EXPORTER").lower() == "none":
        return ""
    if whole := _variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return whole
    base = _variable("OTEL_EXPORTER_OTLP_ENDPOINT")
    return f"{base.rstrip('/')}/v1/traces" if base else ""


def start(service: str, instance: str) -> None:
    """Trace this process from now on, if an endpoint is named; called after a fork, not before.

    Args:
        service: what the process is, as ``api``; ``OTEL_SERVICE_NAME`` says otherwise.
        instance: which of its kind it is.
    """
    if not endpoint():
        return
    try:
        from shared.infra.tracing.export import OpenTelemetry
    except ImportError as error:
        log.warning("nothing is traced: the extra 'otel' is not installed (%s)", error.name)
        return
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (protocol := _variable(name)) not in ("", _PROTOCOL):
            log.warning("spans are sent by %s, whatever %s says (%s)", _PROTOCOL, name, protocol)
    if urlsplit(endpoint()).scheme not in ("http", "https"):
        log.warning("nothing is traced: the endpoint of OTEL_EXPORTER_OTLP_* is no URL of HTTP")
        return
    spans.use(OpenTelemetry(service, instance))


def stop() -> None:
    """Send the spans that have ended, for two seconds at most, and trace no more."""
    tracer = spans.use(None)
    if tracer is not None:
        tracer.close()


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
