"""The filters of the list of jobs, as they stand in its query."""

import re
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BeforeValidator, StringConstraints

from api.native.ids import UUID_SCHEMA, optional_id
from shared.infra.errors import ConflictingOptions, UnsupportedLanguage
from shared.speech.text.languages import UnknownLanguage, language_code
from shared.store.jobs.filters import MAX_MEMBER_CHARS, JobFilter
from shared.store.states import JobState

MAX_MEMBERS = 8
"""Members of metadata that one query may name."""

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _check_time(value: str) -> str:
    # Pydantic takes numbers, and times without an offset, too.
    if not _TIME.fullmatch(value):
        raise ValueError("a time is written as 2026-11-27T14:30:00Z")
    return value


Time = Annotated[datetime, BeforeValidator(_check_time)]
"""As in RFC 3339."""

_Member = Annotated[
    str,
    StringConstraints(
        pattern=rf"^[^=\x00]{{1,{MAX_MEMBER_CHARS}}}=[^\x00]{{0,{MAX_MEMBER_CHARS}}}$"
    ),
]


# A coroutine, though it waits for nothing: FastAPI calls other functions in a thread.
async def _job_filter(
    state: Annotated[
        list[JobState], Query(description="in this state; repeated: in any of these")
    ] = [],  # noqa: B006 - FastAPI hands out copies
    model: Annotated[
        str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="for this model")
    ] = None,
    language: Annotated[
        str | None,
        Query(max_length=100, description="in this language, given or detected: 'de', 'German'"),
    ] = None,
    batch_id: Annotated[
        str | None, Query(description="submitted with this batch", **UUID_SCHEMA)
    ] = None,
    created_from: Annotated[
        Time | None, Query(description="taken then or later: 2026-11-27T14:30:00Z")
    ] = None,
    created_before: Annotated[Time | None, Query(description="taken before then")] = None,
    metadata: Annotated[
        list[_Member],
        Query(
            max_length=MAX_MEMBERS,
            description="KEY=VALUE: whose metadata has this member, a string, a number or a "
            "boolean; repeated: all of these",
        ),
    ] = [],  # noqa: B006
) -> JobFilter:
    code = None
    if language is not None:
        try:
            code = language_code(language)
        except UnknownLanguage as error:
            raise UnsupportedLanguage(str(error)) from error
    if created_from is not None and created_before is not None and created_from >= created_before:
        raise ConflictingOptions("created_from must be before created_before")
    members: dict[str, str] = {}
    for member in metadata:
        key, _, value = member.partition("=")
        if members.setdefault(key, value) != value:
            raise ConflictingOptions(f"metadata cannot have two values for {key!r}")
    return JobFilter(
        states=frozenset(state),
        model=model,
        language=code,
        batch_id=optional_id(batch_id, "batch_id is not the id of a batch"),
        created_from=created_from,
        created_before=created_before,
        metadata=members,
    )


Chosen = Annotated[JobFilter, Depends(_job_filter)]
"""Which jobs a list has."""
