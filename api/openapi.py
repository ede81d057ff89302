"""The parts of the OpenAPI document that endpoints cannot tell by their types."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from api.problems import MEDIA_TYPE, Problem
from api.schemas import NewReference
from shared.options import JobOptions

_PROBLEM_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

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


def install_problem_schema(app: FastAPI) -> None:
    """Add the schema of problems to the document of ``app``."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]
