"""A span for each request to the object store that is made for something traced."""

from typing import Any

from shared.infra.tracing import Kind, Span, begin, current

_SPAN = "longhand_span"
"""Key in botocore's context of a request."""


def trace_requests(events: Any) -> None:
    """Begin and end spans with the events of an S3 client; retries are part of their request."""
    events.register("before-call.s3", _begin)
    events.register("after-call.s3", _end)
    events.register("after-call-error.s3", _fail)


def _begin(model: Any, context: dict[str, Any], **_: object) -> None:
    if current().is_recording:
        context[_SPAN] = begin(
            f"S3/{model.name}",
            Kind.CLIENT,
            parent=current().context,
            attributes={"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": model.name},
        )


def _end(http_response: Any, context: dict[str, Any], **_: object) -> None:
    span: Span | None = context.get(_SPAN)
    if span is not None:
        status = http_response.status_code
        span.set({"http.response.status_code": status})
        span.end(str(status) if status >= 400 else None)


def _fail(exception: Exception, context: dict[str, Any], **_: object) -> None:
    span: Span | None = context.get(_SPAN)
    if span is not None:
        span.end(exception)
