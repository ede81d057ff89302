"""What a job has transcribed so far, in every state and every format."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import TypeAdapter
from sqlalchemy import Engine, text

from harness.jobs import job_store
from harness.jobs.job_store import add_job, claim
from harness.jobs.spoken import (
    CHUNK_S,
    STRIDE_S,
    chunk,
    complete_plan,
    hear,
    plan,
    planned,
    said_in,
)
from harness.jobs.transcripts import docx_paragraphs
from harness.servers.api_server import api, assert_problem
from shared.infra.errors import ModelError
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.chunks.chunk import Chunk, chunk_to_json
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis, hypothesis_to_json
from shared.speech.names import FORMATS
from shared.speech.transcript.transcript import MAX_MISSING, PartialTranscript, Segment
from shared.store import steps
from shared.store.jobs.cancel import cancel_job
from shared.store.steps import ChunkResult, NewStep
from shared.store.transcripts import open_partial_transcript

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def partial(client: httpx.Client, job_id: UUID) -> dict[str, Any]:
    """Fetch it as JSON; its form is the documented one, without a member more."""
    answer = client.get(f"/jobs/{job_id}/transcript", params={"partial": "true"})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert TypeAdapter(PartialTranscript).validate_python(document).model_dump() == document
    return document


def words(document: dict[str, Any]) -> list[str]:
    return [word["text"] for segment in document["segments"] for word in segment["words"]]


def spans(document: dict[str, Any]) -> list[tuple[float, float]]:
    return [(span["start"], span["end"]) for span in document["missing"]]


def test_before_anything_is_done_it_is_empty_in_every_format(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)

    document = partial(client, job_id)

    assert (document["partial"], document["duration_s"]) == (True, None)
    assert (document["text"], document["segments"]) == ("", [])
    assert (document["missing"], document["missing_s"], document["speech_s"]) == ([], 0.0, 0.0)
    empty = {"txt": "", "srt": "", "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n"}
    for name, expected in empty.items():
        url = f"/jobs/{job_id}/transcript?partial=true&format={name}"
        assert (client.get(url).status_code, client.get(url).text) == (200, expected)


def test_what_is_done_is_in_the_order_of_time_and_what_is_missing_is_named(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    preparing = claim(database, job_id, "prepare")
    plan(database, preparing, range(6))
    for idx in (4, 1):
        hear(database, job_id, idx)

    document = partial(client, job_id)

    assert words(document) == said_in(1) + said_in(4)
    assert [segment["id"] for segment in document["segments"]] == [0, 1, 2, 3]
    paragraphs = [
        (each["first_segment"], each["last_segment"], each["text"])
        for each in document["paragraphs"]
    ]
    assert paragraphs == [
        (number, number, segment["text"]) for number, segment in enumerate(document["segments"])
    ]
    starts = [segment["start"] for segment in document["segments"]]
    assert starts == [CHUNK_S + 0.2, CHUNK_S + 9.2, 4 * CHUNK_S + 0.2, 4 * CHUNK_S + 9.2]
    # Neighbours that are both missing are one span.
    assert spans(document) == [(0, 10), (20, 40), (50, 60)]
    assert (document["missing_s"], document["speech_s"]) == (40.0, 20.0)
    assert (document["language"], document["duration_s"]) == ("en", None)

    complete_plan(database, preparing, 6)
    assert partial(client, job_id)["duration_s"] == 6 * CHUNK_S + STRIDE_S


def test_missing_spans_are_on_the_clock_of_the_file(database: Engine) -> None:
    job_id = add_job(database)
    second, core = SAMPLE_RATE, CHUNK_S * SAMPLE_RATE
    # From 15 s on the file's clock is 3 s ahead of the samples.
    late = ((0, 0), (15 * second - 1, 15 * second - 1), (15 * second, 18 * second))
    chunks = [
        Chunk(idx, idx * core, (idx + 1) * core, 0, 0, times=late if idx else ())
        for idx in range(4)
    ]
    steps.add_chunks(
        database,
        claim(database, job_id, "prepare"),
        [NewStep(each.index, chunk_to_json(each)) for each in chunks],
        max_attempts=3,
    )
    hear(database, job_id, 2)

    header = open_partial_transcript(database, "default", job_id).header

    assert [(span.start, span.end) for span in header.missing] == [(0, 23), (33, 43)]
    assert header.missing_s == 30


def test_every_format_shows_what_is_there(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    planned(database, job_id, 3)
    hear(database, job_id, 1)
    for name in FORMATS:
        answer = client.get(f"/jobs/{job_id}/transcript?partial=true&format={name}")
        assert answer.status_code == 200
        text = " ".join(docx_paragraphs(answer.content)) if name == "docx" else answer.text
        assert "word1a" in text
        assert "word2a" not in text


def test_finished_chunks_stay_readable_when_the_job_fails_or_is_canceled(
    client: httpx.Client, database: Engine
) -> None:
    failed, canceled = add_job(database), add_job(database)
    for job_id in (failed, canceled):
        planned(database, job_id, 2)
        hear(database, job_id, 0)
    steps.fail(database, claim(database, failed, "transcribe", 1), ModelError("broken"))
    cancel_job(database, "default", canceled, max_attempts=3)

    for job_id in (failed, canceled):
        assert_problem(client.get(f"/jobs/{job_id}/transcript"), 409, "transcript_not_ready")
        document = partial(client, job_id)
        assert (words(document), spans(document)) == (said_in(0), [(10, 20)])


def test_of_a_job_that_succeeded_it_is_the_whole_transcript(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    planned(database, job_id, 1)
    hear(database, job_id, 0)
    job_store.finish(database, claim(database, job_id, "finish"))
    for name in FORMATS:
        url = f"/jobs/{job_id}/transcript?format={name}"
        assert client.get(f"{url}&partial=true").content == client.get(url).content
    assert client.get(f"/jobs/{job_id}/transcript").json()["partial"] is False


def test_unknown_jobs_and_foreign_ones_have_none(client: httpx.Client, database: Engine) -> None:
    foreign = add_job(database, tenant="another")
    for job_id in (foreign, job_store.uuid7()):
        url = f"/jobs/{job_id}/transcript?partial=true"
        assert_problem(client.get(url), 404, "job_not_found")


def test_a_chunk_that_ends_while_it_is_read_is_in_no_part_of_it(database: Engine) -> None:
    job_id = add_job(database)
    planned(database, job_id, 3)
    hear(database, job_id, 0)
    found = open_partial_transcript(database, "default", job_id)

    hear(database, job_id, 1)

    assert [word.text for segment in found.segments for word in segment.words] == said_in(0)
    assert found.header.missing_s == 2 * CHUNK_S


def test_very_many_missing_spans_are_summed_up_in_the_last(database: Engine) -> None:
    job_id = add_job(database)
    n_chunks = 2 * MAX_MISSING + 20
    planned(database, job_id, n_chunks)
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET state = 'done', output = :output
                WHERE job_id = :id AND kind = 'transcribe' AND idx % 2 = 0
            """),
            {"id": job_id, "output": json.dumps(hypothesis_to_json(Hypothesis(words=())))},
        )

    header = open_partial_transcript(database, "default", job_id).header

    assert len(header.missing) == MAX_MISSING
    assert [(span.start, span.end) for span in header.missing[:2]] == [(10, 20), (30, 40)]
    last = header.missing[-1]
    assert (last.start, last.end) == (10 + 20 * (MAX_MISSING - 1), n_chunks * CHUNK_S)
    assert header.missing_s == n_chunks // 2 * CHUNK_S


def test_channels_are_merged_by_time_and_a_span_missing_in_one_is_missing(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(
        database, options=ResolvedOptions(model="oracle", vad="off", multichannel=True)
    )
    preparing = claim(database, job_id, "prepare")
    new = [
        NewStep(2 * idx + channel, chunk_to_json(chunk(idx, channel)))
        for idx in (0, 1)
        for channel in (0, 1)
    ]
    steps.add_chunks(database, preparing, new, max_attempts=3)
    for number, (said, at_s) in {0: ("left", 4), 1: ("right", 2)}.items():
        word = WordHypothesis(said, at_s * SAMPLE_RATE, (at_s + 1) * SAMPLE_RATE)
        result = ChunkResult(
            claim(database, job_id, "transcribe", number),
            output=hypothesis_to_json(Hypothesis(words=(word,), language="en")),
            timings={},
            audio_s=CHUNK_S,
        )
        assert steps.complete_chunks(database, [result], max_attempts=3) == []

    document = partial(client, job_id)

    assert document["channels"] == 2
    told = [(segment["channel"], segment["text"]) for segment in document["segments"]]
    assert told == [(1, "right"), (0, "left")]
    assert [(each["channel"], each["text"]) for each in document["paragraphs"]] == told
    assert spans(document) == [(10, 20)]


@pytest.mark.parametrize(
    ("options", "language"),
    [({"language": "de"}, "de"), ({"task": "translate"}, "en"), ({"multilingual": True}, "fr")],
)
def test_segments_are_in_the_language_that_the_whole_will_be_in(
    database: Engine, options: dict[str, Any], language: str
) -> None:
    chosen = {"model": "oracle", "vad": "off", **options}
    job_id = add_job(database, options=ResolvedOptions.model_validate(chosen))
    planned(database, job_id, 2)
    hear(database, job_id, 0, language="fr")

    found: list[Segment] = list(open_partial_transcript(database, "default", job_id).segments)

    assert {segment.language for segment in found} == {language}
