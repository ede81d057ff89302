"""All dialects, and how they become part of the application."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.params import Depends

from api.dialects.assemblyai.dialect import ASSEMBLYAI
from api.dialects.deepgram.dialect import DEEPGRAM
from api.dialects.dialect import Dialect
from api.dialects.openai.dialect import OPENAI
from api.faces import add_face

DIALECTS: Sequence[Dialect] = (OPENAI, DEEPGRAM, ASSEMBLYAI)


def install_dialects(app: FastAPI, dependencies: Sequence[Depends]) -> None:
    """Add the routes and faces of all dialects; ``dependencies`` are those of every HTTP route.

    They are not in the OpenAPI document, which describes Longhand's own API: docs/dialects.md says
    what they take.
    """
    for dialect in DIALECTS:
        app.include_router(dialect.routes, dependencies=dependencies, include_in_schema=False)
        if dialect.sockets is not None:
            app.include_router(dialect.sockets)
        for prefix in dialect.prefixes:
            add_face(app, prefix, dialect.answer_error)
