"""The parts of the OpenAPI document that do not follow from the endpoints' types.

Swagger UI (/docs) fills in a body from the document and sends it: for each schema the first of its
``examples``, else its ``default``, else a value made up from its type ("string"). So every optional
member of a body has an example or a default.
"""

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from api.access.routes import SCHEMES
from api.intake.batch import batch_schema
from api.intake.json_job import json_job_schema
from api.intake.raw import FILE_NAME, RAW_BINARY
from api.native.schemas.accuracy import EXAMPLE_REFERENCE, NewReference
from api.native.schemas.jobs import ProgressEvent, SegmentsEvent, StateEvent
from api.origins import SAFE_METHODS, is_host_checked
from api.problems import CHALLENGE, INTERNAL_ERROR, MEDIA_TYPE, RETRY_AFTER_S, Problem, status_of
from shared.infra.errors import (
    DatabaseUnavailable,
    ForbiddenOrigin,
    InvalidRequest,
    IssuerUnavailable,
    LonghandError,
    MisnamedField,
    RateLimited,
    ScopeMissing,
    Unauthenticated,
    UnknownHost,
    UnsupportedMediaType,
    UploadStalled,
)
from shared.infra.outbound import MAX_URL_CHARS, URL_PATTERN
from shared.infra.webhooks.signature import SECRET_PATTERN
from shared.models.options import JobOptions
from shared.speech.files.formats import MEDIA_TYPES
from shared.speech.transcript.transcript import PartialTranscript

_PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

_FORM_EXTRAS: Mapping[str, dict[str, Any]] = {
    "webhook_url": {"pattern": URL_PATTERN, "maxLength": MAX_URL_CHARS},
    "webhook_secret": {"pattern": SECRET_PATTERN},
}
"""Of options whose values are checked outside of ``JobOptions``."""

_TRUTHS = ("1", "on", "t", "y", "yes", "0", "off", "f", "n", "no")
"""What a form's text may say beside true and false."""

TAGS = [
    {"name": "jobs", "description": "Submit audio, follow its transcription, get the transcript."},
    {"name": "uploads", "description": "Send files before their jobs: in parts, and resumably."},
    {"name": "webhooks", "description": "Get jobs' ends sent to a URL instead of asking."},
    {"name": "accuracy", "description": "Word and character error rates, and the cache's use."},
    {"name": "usage", "description": "What was transcribed, by day."},
    {"name": "models", "description": "The models that jobs may name."},
    {"name": "workers", "description": "Who works here, and at what."},
    {"name": "access", "description": "Tenants, API keys, and tokens for live sessions."},
    {"name": "health", "description": "For probes, for Prometheus and for a quick look."},
    {"name": "service", "description": "What runs here."},
]

Responses = dict[int | str, dict[str, Any]]

_RETRY_AFTER = {
    "Retry-After": {
        "description": "seconds",
        "schema": {"type": "integer", "examples": [RETRY_AFTER_S]},
    }
}

_HEADERS: Mapping[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "how to authenticate",
            "schema": {"type": "string", "examples": [CHALLENGE]},
        }
    },
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
"""Of problem answers, by their status."""

_QUOTA_HEADERS = {
    "RateLimit-Policy": {
        "description": "how many requests the tenant may send, in how many seconds",
        "schema": {"type": "string", "examples": ['"requests";q=60000;w=60']},
    },
    "RateLimit": {
        "description": "how many are left, and for how many seconds",
        "schema": {"type": "string", "examples": ['"requests";r=59900;t=42']},
    },
}
"""Of all answers to requests that count, unless the tenant may send any number."""

BODY_ERRORS = (UploadStalled, UnsupportedMediaType, InvalidRequest)
"""What any endpoint raises that reads a body."""

_EVERYWHERE = (InvalidRequest, MisnamedField)
"""What every endpoint raises: none takes unknown query parameters."""

_WITH_KEY: tuple[type[LonghandError], ...] = (
    RateLimited,
    IssuerUnavailable,
    DatabaseUnavailable,
    *DatabaseUnavailable.__subclasses__(),
)
"""What every endpoint raises that needs a key and whose requests count; 401 and 403 beside."""


def operation_id(route: APIRoute) -> str:
    """Return an operation's id, from which client generators make names of methods."""
    return route.name


def problems(*kinds: type[LonghandError]) -> Responses:
    """Return the documentation of an endpoint's problem answers, from the docstrings of errors.

    What every endpoint raises is included, and what those raise that need a key and whose requests
    count.
    """
    return _describe((*kinds, *_WITH_KEY))


def _describe(kinds: Iterable[type[LonghandError]]) -> Responses:
    meanings: dict[int, list[str]] = {}
    by_code: dict[str, type[LonghandError]] = {}
    every: tuple[type[LonghandError], ...] = (*_EVERYWHERE, *kinds)
    for kind in every:
        by_code.setdefault(kind.code, kind)
    for kind in by_code.values():
        status = status_of(kind)
        assert status is not None, f"{kind.__name__} has no status"
        meaning, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n")
        meanings.setdefault(status, []).append(f"`{kind.code}`: {meaning}")
    meanings.setdefault(500, []).append(f"`{INTERNAL_ERROR}`: A bug of ours.")
    return {
        status: {"description": "\n\n".join(told), "content": _PROBLEM_CONTENT}
        | ({"headers": _HEADERS[status]} if status in _HEADERS else {})
        for status, told in meanings.items()
    }


EVERYWHERE = _describe(())
"""The problem answers of every endpoint. As they have a 422, FastAPI documents none of its own."""


def _at_the_door(method: str, path: str, *, is_closed: bool) -> Responses:
    """Return the documentation of what is answered before the endpoint is reached.

    ``is_closed``: the endpoint needs a key.
    """
    kinds: list[type[LonghandError]] = []
    if is_closed:
        kinds += [Unauthenticated, ScopeMissing]
    if method.upper() not in SAFE_METHODS:
        kinds.append(ForbiddenOrigin)
    if is_host_checked(path):
        kinds.append(UnknownHost)
    return {
        str(status): answer
        for status, answer in _describe(kinds).items()
        if status not in EVERYWHERE
    }


def located(description: str, what: str = "the job") -> dict[str, Any]:
    """Return the documentation of an answer whose ``Location`` is ``what``."""
    location = {"required": True, "schema": {"type": "string"}, "description": what}
    return {"description": description, "headers": {"Location": location}}


def transcript_answer() -> Responses:
    """Return the documentation of a transcript in any of its formats."""
    names = ("Transcript", "PartialTranscript")
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    content: dict[str, Any] = {}
    for name, written in MEDIA_TYPES.items():
        media_type, _, _ = written.partition(";")
        binary = {"format": "binary"} if name == "docx" else {}
        content[media_type] = {"schema": {"type": "string", **binary}}
    content["application/json"] = {"schema": {"anyOf": schemas}}
    tag = {"schema": {"type": "string"}, "description": "of a whole transcript, in this format"}
    return {
        200: {"description": "The transcript", "content": content, "headers": {"ETag": tag}},
        304: {"description": "The client has it: `If-None-Match` names its `ETag`"},
    }


def job_body() -> dict[str, Any]:
    """Return the request body of ``POST /jobs``, and the options of a raw one.

    The endpoint reads both itself.
    """
    options = JobOptions.model_json_schema()["properties"]
    fields = {
        name: _form_field(schema | _FORM_EXTRAS.get(name, {})) for name, schema in options.items()
    }
    schema = {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {
                "type": "string",
                "format": "binary",
                "description": "the audio, in any common container and codec; a video's sound too",
            },
            **fields,
        },
    }
    content: dict[str, Any] = {
        "multipart/form-data": {"schema": schema},
        "application/json": {"schema": json_job_schema()},
    }
    for media_type in ("audio/*", "video/*", *RAW_BINARY):
        content[media_type] = {"schema": {"type": "string", "format": "binary", "minLength": 1}}
    name = {"type": "string", "maxLength": 255, "description": "of the file"}
    raw = [_raw_option(option, field) for option, field in ({FILE_NAME: name} | fields).items()]
    body = {"required": True, "content": content}
    return {"requestBody": body, "parameters": [IDEMPOTENCY_KEY, *raw]}


def batch_body() -> dict[str, Any]:
    """Return the request body of ``POST /jobs/batch``, which the endpoint reads itself."""
    content = {"application/json": {"schema": batch_schema()}}
    body = {"required": True, "content": content}
    return {"requestBody": body, "parameters": [IDEMPOTENCY_KEY]}


KEY_PATTERN = "^[!-~]{1,255}$"
"""Regular expression of an ``Idempotency-Key``."""

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "chosen by the client: the request may be sent again for 24 hours, and makes "
    "its jobs once",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
}
"""The header of requests that may be repeated."""


def _raw_option(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    """Return a query parameter that is an option of a raw body."""
    described = {"name": name, "in": "query", "required": False}
    described["description"] = f"only with a raw body: {field.get('description', '')}"
    # Without a default, which Swagger UI would send along with a form.
    apart = ("description", "title", "default", "examples")
    schema = {key: value for key, value in field.items() if key not in apart}
    for choice in schema.get("anyOf", ()):
        if choice.get("type") == "object":
            return described | {"content": {"application/json": {"schema": choice}}}
    return described | {"schema": schema}


def _form_field(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an option's schema for a form, whose fields are texts; an empty one is not given."""
    field = _without_null(schema)
    if "null" in str(schema.get("anyOf")):
        field["default"] = ""
    if "type" not in field:  # true, false or an object, as text
        return {**field, "anyOf": [*field["anyOf"], {"type": "string", "enum": ["", *_TRUTHS]}]}
    if field["type"] != "string":
        words = {"type": "string", "enum": ["", *(_TRUTHS if field["type"] == "boolean" else ())]}
        told = {name: field.pop(name) for name in ("title", "description", "default")}
        return {**told, "anyOf": [field, words]}
    if "enum" in field:
        field["enum"] = ["", *field["enum"]]
    if "pattern" in field:
        field["pattern"] = f"^$|{field['pattern']}"
    return field


def _has_own_face(app: FastAPI, path: str) -> bool:
    """Whether errors at a path have another form than ``Problem`` (``api.faces``)."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in app.state.faces)


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter or a form's field: a URL, a header or a form has no null."""
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) != 1:
        return dict(schema)
    own = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**own, **choices[0]}


def reference_body() -> dict[str, Any]:
    """Return the request body of ``POST /jobs/{id}/reference``, which is read as a stream too."""
    schema = NewReference.model_json_schema()
    content = {
        "application/json": {"schema": schema},
        "text/plain": {"schema": {"type": "string", "examples": [EXAMPLE_REFERENCE]}},
    }
    return {"requestBody": {"required": True, "content": content}}


@cache
def _own_schemas() -> dict[str, Any]:
    """Return the schemas of what no route returns by itself, by name; the start need not wait."""
    models = (Problem, StateEvent, SegmentsEvent, ProgressEvent, PartialTranscript)
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions


def install_schemas(app: FastAPI) -> None:
    """Add to the document of ``app`` what FastAPI does not know, and drop nulls from parameters."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        components = document["components"]["schemas"]
        document["components"]["schemas"] = _own_schemas() | components
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not _has_own_face(app, path):
                    is_closed = bool(operation.get("security"))
                    door = _at_the_door(method, path, is_closed=is_closed)
                    operation["responses"] = door | operation["responses"]
                for parameter in operation.get("parameters", ()):
                    if "schema" in parameter:
                        parameter["schema"] = _without_null(parameter["schema"])
                if "429" in operation["responses"]:
                    operation["responses"] = {
                        status: answer | {"headers": answer.get("headers", {}) | _QUOTA_HEADERS}
                        for status, answer in operation["responses"].items()
                    }
                for answer in operation["responses"].values():
                    for content in answer.get("content", {}).values():
                        content.pop("itemSchema", None)  # a word of OpenAPI 3.2
        document["components"]["securitySchemes"] = SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]
