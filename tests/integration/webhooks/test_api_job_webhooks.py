"""Jobs that name a URL of their own, and what else they carry to it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.webhook_store import SECRET, deliveries
from harness.peers.receivers import Receiver
from harness.servers.api_server import assert_problem

URL = "https://receiver.example/hook"
FILE = {"file": ("a.wav", b"audio")}
GUIDE = Path(__file__).parents[3] / "docs/webhooks.md"


def test_a_job_has_a_url_a_secret_and_metadata_of_its_own(
    client: httpx.Client, database: Engine, receiver: Receiver
) -> None:
    tags = {"customer": "Ä", "nested": {"n": [1, 2.5, None, True]}}
    fields = {
        "webhook_url": receiver.url,
        "webhook_secret": SECRET,
        "metadata": json.dumps(tags),
    }
    answer = client.post("/jobs", data=fields, files=FILE)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert job["metadata"] == tags
    assert client.get(f"/jobs/{job['id']}").json()["metadata"] == tags
    assert "whsec_" not in answer.text
    assert client.get("/webhooks").json() == {"webhooks": []}

    client.post(f"/jobs/{job['id']}/cancel")

    (view,) = deliveries(database, UUID(job["id"]))
    assert view.url == receiver.url
    data = json.loads(view.body)["data"]
    assert data["metadata"] == tags
    assert data["result_url"] == f"https://l.example.com/api/jobs/{job['id']}"
    path = f"/webhooks/{view.endpoint_id}"
    for hidden in (client.get(path), client.post(f"{path}/test"), client.delete(path)):
        assert_problem(hidden, 404, "webhook_not_found")


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ({"webhook_url": URL}, "conflicting_options", "together"),
        ({"webhook_secret": SECRET}, "conflicting_options", "together"),
        ({"webhook_url": URL, "webhook_secret": "hush"}, "invalid_request", "24 to 64"),
        ({"webhook_url": URL, "webhook_secret": "whsec_YWJj"}, "invalid_request", "24 to 64"),
        ({"webhook_url": URL, "webhook_secret": "whsec_?"}, "invalid_request", "base64"),
        ({"webhook_url": URL, "webhook_secret": "whsec_é"}, "invalid_request", "base64"),
        (
            {"webhook_url": URL, "webhook_secret": "whsec_" + "YWJj" * 22},
            "invalid_request",
            "24 to 64",
        ),
        ({"webhook_url": "ftp://r.example", "webhook_secret": SECRET}, "forbidden_url", "https"),
        ({"webhook_url": "https://10.0.0.1", "webhook_secret": SECRET}, "forbidden_url", "public"),
        ({"metadata": "x"}, "invalid_request", "JSON object"),
        ({"metadata": "[1]"}, "invalid_request", "JSON object"),
        ({"metadata": "null"}, "invalid_request", "JSON object"),
        ({"metadata": '{"a": NaN}'}, "invalid_request", "JSON object"),
        ({"metadata": '{"a": 1e999}'}, "invalid_request", "JSON object"),
        ({"metadata": '{"a": "\\u0000"}'}, "invalid_request", "NUL"),
        ({"metadata": '{"a\\u0000": 1}'}, "invalid_request", "NUL"),
        ({"metadata": '{"a": "\\ud800"}'}, "invalid_request", "JSON object"),
        ({"metadata": '{"a":' * 3000 + "1" + "}" * 3000}, "invalid_request", "16 KiB"),
        ({"metadata": '{"a":' * 1000 + "1" + "}" * 1000}, "invalid_request", "JSON object"),
        ({"metadata": json.dumps({"a": "x" * 16_384})}, "invalid_request", "16 KiB"),
    ],
)
def test_bad_fields_of_a_job_are_refused(
    client: httpx.Client, fields: dict[str, str], code: str, detail: str
) -> None:
    before = client.get("/jobs").json()
    problem = assert_problem(client.post("/jobs", data=fields, files=FILE), 422, code)
    assert detail in problem["detail"]
    assert client.get("/jobs").json() == before


def test_the_secret_that_the_guide_makes_is_taken(client: httpx.Client) -> None:
    (command,) = re.findall(r"^python3 .*whsec_.*$", GUIDE.read_text(), re.MULTILINE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    made = [
        subprocess.run(
            ["sh", "-c", command],
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert made[0] != made[1]
    fields = {"webhook_url": URL, "webhook_secret": made[0]}
    assert client.post("/jobs", data=fields, files=FILE).status_code == 202


@pytest.mark.parametrize(
    "metadata", ["{}", '{"a": "\\\\u0000"}', json.dumps({"a": "x" * 16_375}), '{"n": [1e300, 0.1]}']
)
def test_metadata_at_the_limits_come_back_as_they_were(client: httpx.Client, metadata: str) -> None:
    answer = client.post("/jobs", data={"metadata": metadata}, files=FILE)
    assert answer.status_code == 202, answer.text
    assert answer.json()["metadata"] == json.loads(metadata)


def test_webhook_fields_and_metadata_make_no_other_job_of_it(
    client: httpx.Client, database: Engine
) -> None:
    plain = client.post("/jobs", files=FILE).json()
    fields = {"webhook_url": URL, "webhook_secret": SECRET, "metadata": '{"a": 1}'}
    equal = client.post("/jobs", data=fields, files=FILE).json()
    with database.begin() as connection:
        original = connection.execute(
            text("SELECT original_id FROM jobs WHERE id = :id"), {"id": equal["id"]}
        ).scalar_one()
    assert str(original) == plain["id"]
    assert (plain["metadata"], equal["metadata"]) == ({}, {"a": 1})
