"""Schemathesis' hooks and checks of our own (``schemathesis.toml``)."""

import re

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

UNFORESEEN = {
    "checksum_mismatch",
    "checksum_unknown",
    "conflicting_options",
    "empty_file",
    "empty_reference",
    "forbidden_url",
    "idempotency_key_reused",
    "unknown_model",
    "unsupported_language",
    "unsupported_option",
    "upload_too_large",
}
"""Codes of answers that a request may meet although it keeps to the schema. Whether two options fit
together, a model is served, a host is public or a checksum is right cannot be said in a schema, and
the largest upload is a setting. ``invalid_request`` is not among them: it means that the request
breaks the schema."""

UNKNOWN_HEADER = "x-schemathesis-unknown-property"
"""Is added to requests that are to be refused; but HTTP has unknown headers ignored."""

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """Return whether a failure counts."""
    if isinstance(failure, AcceptedNegativeData) and UNKNOWN_HEADER in (case.headers or {}):
        return False
    if isinstance(failure, AcceptedNegativeData) and response.status_code == 202:
        # The jobs of a batch are refused one by one, in an answer that takes the others.
        return not response.json().get("refused")
    refused = isinstance(failure, RejectedPositiveData)
    return not (refused and response.json().get("code") in UNFORESEEN)


@schemathesis.check
def problem_conformance(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """An error is a problem, and its code is among those that the document has for its status."""
    if response.status_code < 400:
        return
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    if documented is None:  # status_code_conformance says so where it should not be
        return
    content_type = response.headers["content-type"][0]
    if content_type != "application/problem+json":
        assert content_type in documented["content"]
        return
    code = response.json()["code"]
    assert f"`{code}`" in documented["description"], f"{code} is not documented"


@schemathesis.check
def discretion(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """No answer tells of the inside."""
    assert b"Traceback" not in response.content
    # Not ".pyw", which Schemathesis itself sends and an answer may repeat.
    assert not re.search(rb"\.py\b", response.content)
