"""Search in transcripts over the API, in its own role."""

from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.equal import submit
from harness.jobs.job_store import TRANSCRIPT, add_job, claim, finish, prepare, transcribe
from harness.jobs.word_streams import transcript_of
from harness.servers.api_server import api, assert_problem
from shared.infra.settings import Settings
from shared.speech.transcript.transcript import Word
from shared.store.jobs.delete import delete_job
from shared.store.retention import expire_transcripts

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def say(database: Engine, *texts: str, tenant: str = "default") -> UUID:
    """Add a job in whose transcript each text is a segment, of words a second long."""
    now, segments = 0.0, []
    for said in texts:
        words = said.split() if " " in said or said.isascii() else list(said)
        segments.append(
            [Word(text=word, start=now + n, end=now + n + 0.5) for n, word in enumerate(words)]
        )
        now += len(words) + 5
    job_id = add_job(database, tenant=tenant)
    _end(database, job_id, segments)
    return job_id


def _end(database: Engine, job_id: UUID, segments: list[list[Word]]) -> None:
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    said = transcript_of(*segments)
    whole = TRANSCRIPT.model_copy(
        update={"text": said.text, "segments": said.segments, "paragraphs": said.paragraphs}
    )
    finish(database, claim(database, job_id, "finish"), whole)


def hits(client: httpx.Client, query: str, **more: object) -> list[tuple[UUID, int]]:
    answer = client.get("/search", params={"q": query, **more})
    assert answer.status_code == 200, answer.text
    return [(UUID(hit["job_id"]), hit["segment"]) for hit in answer.json()["hits"]]


def test_a_hit_tells_where_it_was_said_and_what_was_said_around_it(
    client: httpx.Client, database: Engine
) -> None:
    job_id = say(database, "Good morning.", "The budget was approved.", "Thank you.")

    (hit,) = client.get("/search?q=Budget").json()["hits"]

    assert (hit["job_id"], hit["source_name"], hit["segment"]) == (str(job_id), "a.wav", 1)
    assert (hit["start"], hit["text"]) == (7.0, "The budget was approved.")
    assert (hit["before"], hit["after"]) == ("Good morning.", "Thank you.")
    assert hit["matches"] == [{"text": "budget", "start": 8.0, "end": 8.5}]


def test_words_phrases_and_beginnings_are_found_in_one_segment(
    client: httpx.Client, database: Engine
) -> None:
    job_id = say(database, "one two three", "two one", "three fortytwo")

    assert hits(client, "one two") == [(job_id, 0), (job_id, 1)]
    assert hits(client, '"one two"') == [(job_id, 0)]
    assert hits(client, "fort*") == [(job_id, 2)]
    assert hits(client, "fort") == []
    assert hits(client, "one fortytwo") == []
    assert hits(client, "?!") == []


def test_scripts_without_spaces_are_searched_by_any_run(
    client: httpx.Client, database: Engine
) -> None:
    japanese, thai = say(database, "私は東京都です"), say(database, "วันนี้อากาศดี")
    assert hits(client, "京都") == [(japanese, 0)]
    assert hits(client, "東都") == []
    assert hits(client, "東") == [(japanese, 0)]
    assert hits(client, "อากาศ") == [(thai, 0)]


def test_pages_have_the_newest_transcripts_first_and_each_hit_once(
    client: httpx.Client, database: Engine
) -> None:
    jobs = [say(database, "hello a", "hello b") for _ in range(3)]
    expected = [(job, n) for job in reversed(jobs) for n in (0, 1)]
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get("/search", params={"q": "hello", "limit": 4, "cursor": cursor}).json()
        seen += [(UUID(hit["job_id"]), hit["segment"]) for hit in page["hits"]]
        cursor = page["next_cursor"]
    assert seen == expected


def test_nobody_finds_what_others_said(client: httpx.Client, database: Engine) -> None:
    say(database, "the secret word", tenant="somebody else")
    assert hits(client, "secret") == []


def test_what_was_deleted_is_not_found(client: httpx.Client, database: Engine) -> None:
    deleted, expired = say(database, "hello first"), say(database, "hello second")
    delete_job(database, "default", deleted, max_attempts=1)
    assert hits(client, "hello") == [(expired, 0)]
    expire_transcripts(database, keep_s=0, limit=9)
    assert hits(client, "hello") == []
    with database.begin() as connection:
        left = connection.execute(text("SELECT count(*) FROM transcript_terms")).scalar_one()
    assert left == 0


def test_equal_jobs_share_a_hit_which_names_the_newest(
    client: httpx.Client, database: Engine
) -> None:
    original = submit(database)
    _end(database, original, [[Word(text="hello", start=0, end=1)]])
    copy = submit(database)
    assert hits(client, "hello") == [(copy, 0)]
    delete_job(database, "default", copy, max_attempts=1)
    assert hits(client, "hello") == [(original, 0)]


@pytest.mark.parametrize("query", ["", "q=", "q=a&limit=0", "q=a&cursor=x", "q=%00"])
def test_a_search_for_nothing_is_refused(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/search?{query}"), 422, "invalid_request")


def test_rare_and_common_words_are_found_by_an_index(database: Engine) -> None:
    """The plan of the statement in ``longhand_search``, as its owner runs it."""
    with database.begin() as connection:
        connection.execute(
            text("""
                WITH made AS (
                    INSERT INTO transcripts (id, tenant, header)
                    SELECT gen_random_uuid(), 'default', '{}' FROM generate_series(1, 500)
                    RETURNING id
                )
                INSERT INTO transcript_terms (tenant, transcript_id, idx, terms)
                SELECT 'default', id, idx,
                       array_to_tsvector(ARRAY['default/common', 'default/w' || idx])
                FROM made, generate_series(1, 10) AS idx
            """)
        )
        connection.execute(text("ANALYZE transcript_terms"))
        connection.execute(text("SET LOCAL enable_seqscan = off"))  # chosen for so few rows alone
        for word, n_rows, index in (
            ("common", 21, "pk_transcript_terms"),
            ("never", 0, "ix_transcript_terms_terms"),
        ):
            plan = connection.execute(
                text(f"""
                    EXPLAIN (ANALYZE, FORMAT JSON)
                    SELECT transcript_id, idx FROM transcript_terms
                    WHERE tenant = 'default' AND terms @@ CAST('''default/{word}''' AS tsquery)
                      AND transcript_id <= 'ffffffff-ffff-ffff-ffff-ffffffffffff'
                    ORDER BY transcript_id DESC, idx LIMIT 21
                """)
            ).scalar_one()[0]["Plan"]
            assert plan["Actual Rows"] == n_rows
            assert index in str(plan), plan
