"""Which jobs a list has: the conditions, and the queries that find a page of them by an index.

Row-level security bounds what an index can do: Postgres uses it only for conditions whose operators
are leakproof. Those on JSON are not, so the language is a column, and the members of metadata by
which jobs are found are rows of ``job_metadata``.
"""
# ruff: noqa: S608 - only constants are written into queries

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.store.states import JobState

MAX_MEMBERS = 64
"""Members of a job's metadata by which it is found: the first ones."""
MAX_MEMBER_CHARS = 256
"""Of such a member's key, and of its value. An entry of an index has at most 2,700 bytes."""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What listed jobs have in common; the default is true of all."""

    states: frozenset[JobState] = frozenset()
    """Any of these; empty: of all."""
    model: str | None = None
    language: str | None = None
    """Given or detected."""
    batch_id: UUID | None = None
    """The batch that they were submitted with."""
    created_from: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Members that a job's metadata has, values as text."""


ALL_JOBS = JobFilter()


def findable_members(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the members of a job's metadata by which it is found, values as text.

    These are the first ``MAX_MEMBERS`` that are a string, a number or a boolean, and not too long.
    """
    found: dict[str, str] = {}
    for key, value in metadata.items():
        if not isinstance(value, str | int | float) or len(found) == MAX_MEMBERS:
            continue
        shown = value if isinstance(value, str) else json.dumps(value)
        if max(len(key), len(shown)) <= MAX_MEMBER_CHARS:
            found[key] = shown
    return found


_SLACK = "interval '10 minutes'"
"""How much later than its ``created_at`` a job may have drawn its ``first_event``: far longer than
the transaction that does both."""


def page_query(columns: str, chosen: JobFilter) -> tuple[str, dict[str, Any]]:
    """Return the query of a page of jobs, newest first, and what it needs beside the page's own.

    The page's own parameters are ``tenant``, ``before`` (a ``first_event``) and ``limit``.
    """
    conditions = ["tenant = %(tenant)s", "first_event < %(before)s"]
    parameters: dict[str, Any] = {}
    for name in ("model", "language", "batch_id"):
        value = getattr(chosen, name)
        if value is not None:
            conditions.append(f"{name} = %({name})s")
            parameters[name] = value
    if chosen.created_from is not None:
        # Jobs are created nearly in the order of ``first_event``, so a bound on it ends the scan of
        # the index.
        conditions.append(f"""created_at >= %(created_from)s AND first_event > coalesce((
            SELECT first_event FROM jobs
            WHERE tenant = %(tenant)s AND created_at < %(created_from)s - {_SLACK}
            ORDER BY created_at DESC LIMIT 1
        ), 0)""")
        parameters["created_from"] = chosen.created_from
    if chosen.created_before is not None:
        conditions.append(f"""created_at < %(created_before)s AND first_event < coalesce((
            SELECT first_event FROM jobs
            WHERE tenant = %(tenant)s AND created_at >= %(created_before)s + {_SLACK}
            ORDER BY created_at LIMIT 1
        ), %(before)s)""")
        parameters["created_before"] = chosen.created_before
    source, order = "jobs", "first_event"
    for n, (key, value) in enumerate(chosen.metadata.items()):
        parameters |= {f"key{n}": key, f"value{n}": value}
        member = f"tenant = %(tenant)s AND key = %(key{n})s AND value = %(value{n})s"
        if n == 0:  # an index has the jobs of a member in order
            source = f"""jobs JOIN (
                SELECT job_id, first_event AS place FROM job_metadata
                WHERE {member} AND first_event < %(before)s
            ) AS member ON member.job_id = jobs.id"""
            order = "place"
        else:
            conditions.append(f"""EXISTS (
                SELECT FROM job_metadata WHERE {member} AND first_event = jobs.first_event
            )""")
    # One query for each state, since an index has the jobs of one state in order. States are
    # written into the query: parameters would not show that a partial index has all of them.
    pages = [
        f"""(
            SELECT {columns} FROM {source} WHERE {" AND ".join([*conditions, *of_state])}
            ORDER BY {order} DESC LIMIT %(limit)s
        )"""
        for of_state in _of_states(chosen)
    ]
    query = f"""
        SELECT * FROM ({" UNION ALL ".join(pages)}) AS page
        ORDER BY first_event DESC LIMIT %(limit)s
    """
    return query, parameters


def _of_states(chosen: JobFilter) -> list[list[str]]:
    return [[f"state = '{state}'"] for state in sorted(chosen.states)] or [[]]
