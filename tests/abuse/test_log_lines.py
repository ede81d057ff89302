"""What strangers can write into the log of the API."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx

from api.request_log import MAX_PATH_CHARS
from harness.live.clients import live
from harness.servers.api_server import api_process
from shared.infra.settings import Settings

FORGED = "2026-11-27T06:00:00.000+00:00 CRITICAL api: all jobs were deleted"


def send(client: httpx.Client, head: bytes) -> bytes:
    """Send a request that no client library would send; return the answer's beginning."""
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address, 60) as connection:
        connection.sendall(head)
        return connection.recv(4096)


def abuse(client: httpx.Client) -> None:
    """Put into requests what shall look like lines, commands, secrets or megabytes."""
    client.get(f"/jobs/%0a{FORGED.replace(' ', '%20')}")
    client.get("/%1b%5b2J%00%e2%80%ae")
    client.get("/" + "a" * 50_000)
    client.get("/jobs?token=lh_live_query", headers={"Authorization": "Bearer lh_live_header"})
    client.get("/jobs", headers={"X-Request-Id": "forged level=CRITICAL", "X-API-Key": "api-key"})
    client.get("/jobs", headers={"X-Forwarded-For": f"203.0.113.7, {FORGED}"})
    client.get("/jobs", headers={"X-Forwarded-For": "203.0.113.7", "X-Request-Id": "mine"})
    send(client, f"GET /jobs HTTP/1.1\r\nHost: a\r\nX: \n{FORGED}\r\n\r\n".encode())
    send(client, b"GET /\x1b[31m\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    send(client, b"MKCOL /jobs HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def test_a_stranger_forges_no_line_and_leaves_no_secret(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    chosen = settings.model_copy(update={"log_format": "json", "log_level": "DEBUG"})
    with api_process(chosen, log) as (client, _):
        abuse(client)
        with live(client) as talker:
            talker.send({"type": "end"})
    text = log.read_text()
    lines = text.splitlines()
    assert text.replace("\n", "").isprintable()
    assert max(map(len, lines)) < 2_500
    assert all(each not in text for each in ("lh_live_query", "lh_live_header", "api-key"))
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert {each["service"] for each in records} == {"api"}
    assert all(not each["message"].startswith(FORGED) for each in records)

    requests = [each for each in records if each["logger"] == "api.access"]
    assert len(requests) >= 9
    for each in requests:
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", each["request_id"])
        assert each["client"] in ("127.0.0.1", "203.0.113.7", "unknown")
        assert len(each["path"]) < MAX_PATH_CHARS + 50
        assert each["path"].isprintable()
    mine = next(each for each in requests if each["request_id"] == "mine")
    assert (mine["client"], mine["method"], mine["path"]) == ("203.0.113.7", "GET", "/jobs")
    assert (mine["route"], mine["status"]) == ("/jobs", 200)
    assert [each["status"] for each in requests if each["method"] == "WEBSOCKET"] == [101]
