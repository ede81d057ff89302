"""Reads for references: the texts to compare, error rates by model, and the cache's use."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from shared.infra.database import begin
from shared.infra.errors import JobNotFound, TranscriptDeleted, TranscriptNotReady
from shared.speech.accuracy import Accuracy


@dataclass(frozen=True, slots=True)
class StoredText:
    """The running text of a stored transcript."""

    text: str
    language: str | None
    """Of the text: English for a translation."""


@dataclass(frozen=True, slots=True)
class ModelAccuracy:
    """Error rates of all measured jobs of a model, a language and a task."""

    model: str
    language: str | None
    task: str
    jobs: int
    audio_s: float
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class CacheUse:
    """How many jobs were computed, and how many got an equal job's transcript."""

    computed: int
    cached: int
    audio_saved_s: float


def get_text(engine: Engine, tenant: str, job_id: UUID) -> StoredText:
    """Return the text of a job that succeeded.

    Raises:
        JobNotFound: there is no such job for this tenant.
        TranscriptNotReady: the job is in another state, which the message names.
        TranscriptDeleted: its transcript was removed.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        state = connection.execute(
            text("SELECT state FROM jobs WHERE id = :id AND tenant = :tenant"),
            {"id": job_id, "tenant": tenant},
        ).scalar_one_or_none()
        if state is None:
            raise JobNotFound(f"there is no job {job_id}")
        if state != "succeeded":
            raise TranscriptNotReady(f"the job is {state}, so it has no transcript", state)
        found = read_text(connection, job_id)
    if found is None:
        raise TranscriptDeleted("the transcript was removed: its time was up")
    return found


def accuracy_by_model(engine: Engine, tenant: str) -> list[ModelAccuracy]:
    """Return error rates by model, language of the speech and task: sums of errors by sums of
    words.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        rows = connection.execute(
            text("""
                SELECT model, coalesce(options ->> 'language', detected_language) AS language,
                       options ->> 'task' AS task,
                       count(*) AS jobs, sum(duration_s) AS audio_s,
                       sum((accuracy ->> 'words')::bigint)::bigint AS words,
                       sum((accuracy ->> 'word_errors')::bigint)::bigint AS word_errors,
                       sum((accuracy ->> 'characters')::bigint)::bigint AS characters,
                       sum((accuracy ->> 'character_errors')::bigint)::bigint AS character_errors
                FROM jobs WHERE tenant = :tenant AND accuracy IS NOT NULL
                GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
            """),
            {"tenant": tenant},
        ).all()
    return [
        ModelAccuracy(
            model=row.model,
            language=row.language,
            task=row.task,
            jobs=row.jobs,
            audio_s=row.audio_s,
            accuracy=Accuracy.of_counts(
                words=row.words,
                word_errors=row.word_errors,
                characters=row.characters,
                character_errors=row.character_errors,
            ),
        )
        for row in rows
    ]


def cache_use(engine: Engine, tenant: str) -> CacheUse:
    """Return how many jobs of a tenant were computed, and how many got an equal one's transcript.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    with begin(engine) as connection:
        row = connection.execute(
            text("""
                SELECT count(*) FILTER (WHERE NOT cached) AS computed,
                       count(*) FILTER (WHERE cached) AS cached,
                       coalesce(sum(duration_s) FILTER (WHERE cached), 0) AS audio_saved_s
                FROM jobs WHERE tenant = :tenant AND state = 'succeeded'
            """),
            {"tenant": tenant},
        ).one()
    return CacheUse(row.computed, row.cached, row.audio_saved_s)


def read_text(connection: Connection, job_id: UUID) -> StoredText | None:
    """Return the text of a job; None where it has no transcript, or no longer."""
    row = connection.execute(
        text("""
            SELECT CASE options ->> 'task' WHEN 'translate' THEN 'en'
                   ELSE header ->> 'language' END AS language,
                   (SELECT string_agg(document ->> 'text', ' ' ORDER BY idx)
                    FROM transcript_segments WHERE transcript_id = transcripts.id) AS text
            FROM jobs JOIN transcripts ON transcripts.id = jobs.transcript_id
            WHERE jobs.id = :id
        """),
        {"id": job_id},
    ).one_or_none()
    return None if row is None else StoredText(row.text or "", row.language)
