"""Asking after jobs over real sockets: listed, read in every format, canceled."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from api.native.answers import answer_with_job
from api.resources import Resources
from harness.jobs import job_store
from harness.jobs.job_store import MANIFEST, TRANSCRIPT, add_job, claim, prepare, transcribe
from harness.servers.api_server import api, api_process, assert_problem, peak_memory
from shared.infra.errors import UnreadableMedia
from shared.infra.settings import Settings
from shared.speech.names import FORMATS
from shared.speech.transcript.manifest import Manifest
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Segment, Transcript, TranscriptWarning, Word
from shared.store import steps
from shared.store.jobs.read import get_job
from shared.store.retention import expire_transcripts

MIB = 1024**2

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def client(servers: Settings) -> Iterator[httpx.Client]:
    with api(servers) as client:
        yield client


def finish(database: Engine, job_id: UUID, transcript: Transcript = TRANSCRIPT) -> None:
    prepare(database, job_id, 1)
    transcribe(database, claim(database, job_id, "transcribe"))
    job_store.finish(database, claim(database, job_id, "finish"), transcript)


@pytest.mark.parametrize("job_id", ["01890000-0000-7000-8000-000000000000", "x", "%7B1%7D", "%00"])
@pytest.mark.parametrize("suffix", ["", "/transcript", "/manifest"])
def test_unknown_foreign_and_malformed_ids_are_one_404(
    client: httpx.Client, database: Engine, job_id: str, suffix: str
) -> None:
    foreign = str(add_job(database, tenant="somebody else"))
    problems = []
    for tried in (job_id, foreign):
        problem = assert_problem(client.get(f"/jobs/{tried}{suffix}"), 404, "job_not_found")
        problems.append({**problem, "detail": "", "instance": "", "request_id": ""})
        assert re.fullmatch(r"there is no job \S+", str(problem["detail"]))
    assert problems[0] == problems[1]


@pytest.mark.parametrize("result", ["transcript", "manifest"])
def test_a_result_asked_for_too_early_is_a_conflict_that_names_the_state(
    client: httpx.Client, database: Engine, result: str
) -> None:
    job_id = add_job(database)
    problem = assert_problem(client.get(f"/jobs/{job_id}/{result}"), 409, "transcript_not_ready")
    assert problem["state"] == "queued"
    assert result in str(problem["detail"])


def test_the_manifest_of_a_finished_job_is_told_as_it_was_written(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    finish(database, job_id)
    answer = client.get(f"/jobs/{job_id}/manifest")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert Manifest.model_validate_json(answer.content) == MANIFEST


def test_a_finished_job_has_its_transcript_in_every_format(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    finish(database, job_id)

    job = client.get(f"/jobs/{job_id}").json()

    assert (job["state"], job["progress"]["stage"]) == ("succeeded", "done")
    assert job["progress"]["chunks_known"] is True
    assert job["transcript"]["text"] == "hello"
    assert client.get(f"/jobs/{job_id}/transcript").json()["text"] == "hello"
    for name in FORMATS:
        answer = client.get(f"/jobs/{job_id}/transcript", params={"format": name})
        assert answer.status_code == 200, name
    problem = assert_problem(
        client.get(f"/jobs/{job_id}/transcript?format=pdf"), 422, "unknown_format"
    )
    assert "srt" in str(problem["detail"])


def test_a_list_of_formats_is_told_to_be_one_a_request(
    client: httpx.Client, database: Engine
) -> None:
    answer = client.get(f"/jobs/{add_job(database)}/transcript?format=srt,vtt")
    problem = assert_problem(answer, 422, "unknown_format")
    assert problem["detail"] == (
        "no format 'srt,vtt'; there are txt, json, srt, vtt, tsv, docx, of which a request names "
        "one"
    )


@pytest.mark.parametrize(
    ("query", "code", "problem"),
    [
        ("format=txt&max_line_width=20", "conflicting_options", "for subtitles: srt, vtt"),
        ("max_line_count=1", "conflicting_options", "for subtitles: srt, vtt"),
        ("format=srt&max_line_width=9", "invalid_request", "greater than or equal to 10"),
        ("format=vtt&max_line_count=5", "invalid_request", "less than or equal to 4"),
        ("format=docx&max_words_per_cue=3", "conflicting_options", "for subtitles: srt, vtt"),
        ("format=vtt&max_words_per_cue=0", "invalid_request", "greater than or equal to 1"),
    ],
)
def test_sizes_that_no_subtitle_has_are_refused(
    client: httpx.Client, database: Engine, query: str, code: str, problem: str
) -> None:
    job_id = add_job(database)
    finish(database, job_id)
    answer = client.get(f"/jobs/{job_id}/transcript?{query}")
    assert problem in str(assert_problem(answer, 422, code)["detail"])


def test_a_job_tells_its_text_and_its_words_where_they_are_asked_for(
    client: httpx.Client, database: Engine
) -> None:
    job_id = add_job(database)
    whole = TRANSCRIPT.model_copy(
        update={"warnings": [TranscriptWarning(code="clipped_audio", detail="Too loud.")]}
    )
    url = f"/jobs/{job_id}"
    assert client.get(f"{url}?include=words").json()["transcript"] is None
    finish(database, job_id, whole)

    plain, words = client.get(url).json(), client.get(f"{url}?include=words").json()
    silent = client.get(f"{url}?text=false").json()

    assert plain["transcript"] == whole.model_dump(exclude={"paragraphs", "segments"})
    assert words == {**plain, "transcript": whole.model_dump()}
    assert silent == {
        **plain,
        "transcript": whole.model_dump(exclude={"paragraphs", "segments", "text"}),
    }


@pytest.mark.parametrize("query", ["include=word", "include=", "include=words&include=all"])
def test_an_unknown_thing_to_include_is_refused(
    client: httpx.Client, database: Engine, query: str
) -> None:
    problem = assert_problem(
        client.get(f"/jobs/{add_job(database)}?{query}"), 422, "invalid_request"
    )
    assert "words" in str(problem["detail"])


def test_words_without_text_are_refused(client: httpx.Client, database: Engine) -> None:
    answer = client.get(f"/jobs/{add_job(database)}?include=words&text=false")
    assert "text=false" in str(assert_problem(answer, 422, "conflicting_options")["detail"])


def test_the_schema_of_a_job_has_all_shapes_of_its_transcript(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    shapes = schemas["Job"]["properties"]["transcript"]["anyOf"]
    names = [shape["$ref"].rpartition("/")[2] for shape in shapes if "$ref" in shape]
    properties = [schemas[name]["properties"] for name in names]
    assert [("text" in found, "segments" in found) for found in properties] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    for path, method in [
        *[("/jobs", "post"), ("/jobs/{job_id}", "get")],
        *[("/jobs/{job_id}/cancel", "post"), ("/jobs/{job_id}/retry", "post")],
    ]:
        answers = document["paths"][path][method]["responses"]
        (answer,) = (answers[status] for status in ("200", "202") if status in answers)
        assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Job")


@pytest.mark.parametrize(("end", "stage"), [("fail", "failed"), ("cancel", "canceled")])
def test_a_job_that_did_not_succeed_is_not_done(
    client: httpx.Client, database: Engine, end: str, stage: str
) -> None:
    job_id = add_job(database)
    prepare(database, job_id, 1)
    if end == "fail":
        steps.fail(database, claim(database, job_id, "transcribe"), UnreadableMedia("a poem"))
    else:
        client.post(f"/jobs/{job_id}/cancel")
    for job in (client.get(f"/jobs/{job_id}").json(), client.get("/jobs").json()["jobs"][0]):
        assert (job["state"], job["progress"]["stage"]) == (stage, stage)


def test_a_transcript_that_is_removed_while_its_job_is_read_leaves_a_job_without_one(
    settings: Settings, database: Engine
) -> None:
    resources = cast(Resources, SimpleNamespace(engine=database, settings=settings))
    job_id = add_job(database)
    finish(database, job_id)
    view = get_job(database, "default", job_id)
    expire_transcripts(database, keep_s=0, limit=9)
    job = json.loads(answer_with_job(resources, "default", view).body)
    assert (job["state"], job["transcript"]) == ("succeeded", None)
    assert job["transcript_deleted_at"] is not None


def hours_of(n_segments: int) -> Transcript:
    words = [Word(text=f"word{at}", start=at * 0.3, end=at * 0.3 + 0.2) for at in range(10)]
    line = " ".join(word.text for word in words)
    segment = Segment(id=0, start=0, end=3, text=line, language="en", words=words)
    segments = [
        segment.model_copy(update={"id": n, "start": 4.0 * n, "end": 4.0 * n + 3})
        for n in range(n_segments)
    ]
    return Transcript(
        language="en",
        duration_s=4.0 * n_segments,
        speech_s=3.0 * n_segments,
        skipped_s=1.0 * n_segments,
        text=" ".join([line] * n_segments),
        paragraphs=list(make_paragraphs(segments)),
        segments=segments,
    )


def test_a_long_transcript_is_sent_whole_in_memory_for_a_short_one(
    settings: Settings, database: Engine, tmp_path: Path
) -> None:
    long = hours_of(3_000)
    ids = [add_job(database) for _ in range(2)]
    finish(database, ids[0])
    finish(database, ids[1], long)
    with api_process(settings, tmp_path / "api.log") as (client, pid):
        for path in ("", "?include=words", "/transcript"):
            client.get(f"/jobs/{ids[0]}{path}")
        before = peak_memory(pid)
        plain = client.get(f"/jobs/{ids[1]}/transcript", params={"format": "json"})
        job, whole = (
            client.get(f"/jobs/{ids[1]}", params=query) for query in ({}, {"include": "words"})
        )
        grown = peak_memory(pid) - before

    assert plain.text == long.model_dump_json(indent=2) + "\n"
    assert Transcript.model_validate(whole.json()["transcript"]) == long
    assert whole.json() == {**job.json(), "transcript": long.model_dump()}
    assert job.json()["transcript"] == long.model_dump(exclude={"paragraphs", "segments"})
    assert job.json()["id"] == str(ids[1])
    assert len(plain.content) > 4 * MIB
    assert len(job.content) < MIB
    assert grown < 8 * MIB


def test_jobs_are_listed_newest_first_page_by_page(client: httpx.Client, database: Engine) -> None:
    ids = [str(add_job(database)) for _ in range(5)]
    add_job(database, tenant="somebody else")
    seen: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/jobs", params={"limit": 2, **cursor}).json()
        seen.append([job["id"] for job in page["jobs"]])
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [ids[:-3:-1], ids[-3:-5:-1], ids[:1]]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=__________8", "cursor=AAAAAAAAAAB"],
)
def test_a_bad_page_is_refused(client: httpx.Client, query: str) -> None:
    assert_problem(client.get(f"/jobs?{query}"), 422, "invalid_request")


def test_a_job_is_canceled_once_and_for_all(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    for _ in range(2):
        answer = client.post(f"/jobs/{job_id}/cancel")
        assert answer.status_code == 200
        assert answer.json()["state"] == "canceled"
    assert client.get(f"/jobs/{job_id}").json()["state"] == "canceled"


def test_a_job_that_has_ended_is_not_canceled(client: httpx.Client, database: Engine) -> None:
    job_id = add_job(database)
    finish(database, job_id)
    assert_problem(client.post(f"/jobs/{job_id}/cancel"), 409, "job_ended")
    assert client.get(f"/jobs/{job_id}").json()["state"] == "succeeded"


def test_an_unknown_job_cannot_be_canceled(client: httpx.Client) -> None:
    assert_problem(client.post(f"/jobs/{UUID(int=7)}/cancel"), 404, "job_not_found")
