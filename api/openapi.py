"""The parts of the OpenAPI document that endpoints cannot tell by their types."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from api.problems import MEDIA_TYPE, Problem
from api.schemas.accuracy import NewReference
from api.schemas.jobs import ProgressEvent, SegmentsEvent, StateEvent
from shared.options import JobOptions
from shared.transcript import PartialTranscript

_PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

_TRANSCRIPTS = ("Transcript", "PartialTranscript")

Responses = dict[int | str, dict[str, Any]]


def problems(descriptions: Mapping[int, str]) -> Responses:
    """Return the documentation of an endpoint's problem answers by status."""
    responses: Responses = {
        status: {"description": description, "content": _PROBLEM_CONTENT}
        for status, description in descriptions.items()
    }
    # Naming a default also keeps FastAPI from documenting a 422 of its own form.
    responses["default"] = {"description": "Any other problem", "content": _PROBLEM_CONTENT}
    return responses


def transcript_answer() -> Responses:
    """Return the documentation of a transcript in any of its formats."""
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in _TRANSCRIPTS]
    content = {"application/json": {"schema": {"anyOf": schemas}}, "text/*": {}}
    return {200: {"description": "The transcript", "content": content}}


def job_form() -> dict[str, Any]:
    """Return the request body of ``POST /jobs``, which the endpoint reads as a raw stream."""
    options = JobOptions.model_json_schema()["properties"]
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
            **options,
        },
    }
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def reference_body() -> dict[str, Any]:
    """Return the request body of ``POST /jobs/{id}/reference``, read as a stream as well."""
    schema = NewReference.model_json_schema()
    content = {
        "application/json": {"schema": schema},
        "text/plain": {"schema": {"type": "string"}},
    }
    return {"requestBody": {"required": True, "content": content}}


def install_schemas(app: FastAPI) -> None:
    """Add to the document of ``app`` what answers are made of without FastAPI's knowledge."""
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
