"""The parts of the OpenAPI document that do not follow from the endpoints' types.

Swagger UI (/docs) fills in a body from the document and sends it: for each schema the first of its
``examples``, else its ``default``, else a value made up from its type ("string"). So every optional
member of a body has an example or a default.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from api.native.schemas.accuracy import EXAMPLE_REFERENCE, NewReference
from api.native.schemas.jobs import ProgressEvent, SegmentsEvent, StateEvent
from api.problems import MEDIA_TYPE, Problem, status_of
from shared.infra.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    LonghandError,
    RateLimited,
    UnsupportedMediaType,
    UploadStalled,
)
from shared.models.options import JobOptions
from shared.speech.transcript import PartialTranscript

_PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

TAGS = [
    {"name": "jobs", "description": "Submit audio, follow its transcription, get the transcript."},
    {"name": "webhooks", "description": "Get jobs' ends sent to a URL instead of asking."},
    {"name": "accuracy", "description": "Word and character error rates, and the cache's use."},
    {"name": "usage", "description": "What was transcribed, by day."},
    {"name": "models", "description": "The models that jobs may name."},
    {"name": "workers", "description": "Who works here, and at what."},
    {"name": "health", "description": "For probes, for Prometheus and for a quick look."},
    {"name": "service", "description": "What runs here."},
]

Responses = dict[int | str, dict[str, Any]]

BODY_ERRORS = (UploadStalled, UnsupportedMediaType, InvalidRequest)
"""What any endpoint raises that reads a body."""

ANY_PROBLEM: Responses = {
    "default": {"description": "Any other problem", "content": _PROBLEM_CONTENT}
}
"""Of every endpoint. With a default, FastAPI does not document a 422 in its own form."""


def operation_id(route: APIRoute) -> str:
    """Return an operation's id, from which client generators make names of methods."""
    return route.name


def problems(*kinds: type[LonghandError]) -> Responses:
    """Return the documentation of an endpoint's problem answers, from the docstrings of errors.

    All endpoints that have any need Postgres, and count as requests of their tenant.
    """
    described: dict[int | None, list[str]] = {}
    raised: tuple[type[LonghandError], ...] = (*kinds, RateLimited, DatabaseUnavailable)
    for kind in raised:
        meaning, _, _ = inspect.cleandoc(kind.__doc__ or "").partition("\n")
        described.setdefault(status_of(kind), []).append(f"`{kind.code}`: {meaning}")
    return {
        status: {"description": "\n\n".join(meanings), "content": _PROBLEM_CONTENT}
        for status, meanings in described.items()
        if status is not None
    }


def located(description: str) -> dict[str, Any]:
    """Return the documentation of an answer whose ``Location`` is the job."""
    location = {"schema": {"type": "string"}, "description": "the job"}
    return {"description": description, "headers": {"Location": location}}


def transcript_answer() -> Responses:
    """Return the documentation of a transcript in any of its formats."""
    names = ("Transcript", "PartialTranscript")
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    content = {"application/json": {"schema": {"anyOf": schemas}}, "text/*": {}}
    return {200: {"description": "The transcript", "content": content}}


def job_form() -> dict[str, Any]:
    """Return the request body of ``POST /jobs``, which the endpoint reads as a stream."""
    options = JobOptions.model_json_schema()["properties"]
    fields = {name: _form_field(schema) for name, schema in options.items()}
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
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def _form_field(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an option's schema for a form, in which an empty field stands for null."""
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if not choices:
        return dict(schema)
    (choice,) = choices
    field = {**schema, **choice, "default": ""}
    del field["anyOf"]
    if "enum" in field:
        field["enum"] = ["", *field["enum"]]
    if "pattern" in field:
        field["pattern"] = f"^$|{field['pattern']}"
    return field


def reference_body() -> dict[str, Any]:
    """Return the request body of ``POST /jobs/{id}/reference``, which is read as a stream too."""
    schema = NewReference.model_json_schema()
    content = {
        "application/json": {"schema": schema},
        "text/plain": {"schema": {"type": "string", "examples": [EXAMPLE_REFERENCE]}},
    }
    return {"requestBody": {"required": True, "content": content}}


def install_schemas(app: FastAPI) -> None:
    """Add the schemas of answers that FastAPI does not know to the document of ``app``."""
    generate = app.openapi
    models = (Problem, StateEvent, SegmentsEvent, ProgressEvent, PartialTranscript)
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models], ref_template="#/components/schemas/{model}"
    )

    def openapi() -> dict[str, Any]:
        document = generate()
        components = document["components"]["schemas"]
        document["components"]["schemas"] = schemas["$defs"] | components
        return document

    app.openapi = openapi  # type: ignore[method-assign]
