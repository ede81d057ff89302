"""Job ids in requests."""

from uuid import UUID

from shared.infra.errors import JobNotFound


def existing_id(text: str) -> UUID:
    """Return the id in ``text``; a text that is none names no job.

    Raises:
        JobNotFound: it is none.
    """
    job_id = parse_id(text)
    if job_id is None:
        raise JobNotFound(f"there is no job {text}")
    return job_id


def parse_id(text: str) -> UUID | None:
    """Return the id, if written as we write ids; ``UUID`` alone takes braces and more."""
    try:
        job_id = UUID(text)
    except ValueError:
        return None
    return job_id if str(job_id) == text.lower() else None
