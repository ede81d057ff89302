"""Clients that were written for other services run here as they are.

The two services that live audio replaces print a client on their page. Their pages are not ours to
copy: they are read from the folder that ``FOUNDING_PAGES`` names. Clients of our own that make the
same calls in the same order always run.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness.live.audio import say, silence, texts
from harness.live.hearers import ToneHearer
from harness.repository.documents import blocks
from shared.speech.live.requests import LiveKind

PAGES = os.environ.get("FOUNDING_PAGES", "")
needs_pages = pytest.mark.skipif(
    not PAGES, reason="FOUNDING_PAGES names no folder with the pages of the other services"
)

STT = """
import asyncio, json, websockets

async def talk():
    async with websockets.connect("ws://localhost:8000/ws/stt", open_timeout=60) as socket:
        config = {"lang_code": "pt"}
        start = {"type": "start_session", "session_id": "a-talker", "config": config}
        await socket.send(json.dumps(start))
        assert json.loads(await socket.recv())["type"] == "session_started"
        pcm = open("audio.raw", "rb").read()
        for at in range(0, len(pcm), 1280):  # 40 ms every 20 ms: twice real time
            await socket.send(pcm[at : at + 1280])
            await asyncio.sleep(0.02)
        for kind in "flush", "end_session":  # at once, with all texts still to come
            await socket.send(json.dumps({"type": kind}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "session_ended":
                return
            if message["type"] == "final_transcript":
                print("Transcript:", message["text"])

asyncio.run(talk())
"""
TRANSCRIBE = """
import asyncio, json, websockets

async def talk():
    async with websockets.connect("ws://localhost:8000/ws/transcribe", open_timeout=60) as socket:
        await socket.send(json.dumps({"type": "config", "language": "en"}))
        pcm = open("audio.pcm", "rb").read()
        for at in range(0, len(pcm), 32_000):  # a second at a time, as fast as interims allow
            await socket.send(pcm[at : at + 32_000])
            try:
                print(json.loads(await asyncio.wait_for(socket.recv(), 0.1)))
            except asyncio.TimeoutError:
                continue
        await socket.send(json.dumps({"type": "end"}))
        print(json.loads(await socket.recv()))  # the next message is the final

asyncio.run(talk())
"""
REDIRECT = """
import runpy, socket, sys
_, program, port = sys.argv
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, asked, *rest, **more: resolve("127.0.0.1", port, *rest, **more)
runpy.run_path(program, run_name="__main__")
"""
"""Runs a program as it is, whose connections to any address go to a port of this machine."""


def printed_on(page: str, path: str) -> str:
    """Return the client of a WebSocket that a page of another service prints."""
    (program,) = (
        block.text
        for block in blocks(str(Path(PAGES) / page))
        if block.language == "python" and f":8000{path}" in block.text and "recv(" in block.text
    )
    return program


def run(program: str, client: httpx.Client, folder: Path) -> list[str]:
    """Run a client against the server, and return the lines that it prints."""
    (folder / "client.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-c", REDIRECT, "client.py", str(client.base_url.port)],
        cwd=folder,
        env={**os.environ, "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("whose", ["ours", pytest.param("theirs", marks=needs_pages)])
def test_a_client_of_the_streaming_service_prints_all_that_was_said(
    client: httpx.Client, tmp_path: Path, whose: str
) -> None:
    pcm = silence(0.3) + say(1, 2, 3) + silence(0.8) + say(4, 5)
    (tmp_path / "audio.raw").write_bytes(pcm)
    program = STT if whose == "ours" else printed_on("streaming-stt-service.md", "/ws/stt")

    lines = run(program, client, tmp_path)

    assert lines == [f"Transcript: {texts(1, 2, 3)}", f"Transcript: {texts(4, 5)}"]


@pytest.mark.parametrize("whose", ["ours", pytest.param("theirs", marks=needs_pages)])
def test_a_client_of_the_websocket_server_prints_the_whole_text_at_the_end(
    client: httpx.Client, hearer: ToneHearer, tmp_path: Path, whose: str
) -> None:
    # The client waits 0.1 s for an interim: one that is later, on a busy machine, it would take
    # for the final. So there are none here.
    hearer.error = lambda request: "busy" if request.kind is LiveKind.PARTIAL else None
    (tmp_path / "audio.pcm").write_bytes(silence(0.3) + say(*range(20)))
    page = "whisper-websocket-server.md"
    program = TRANSCRIBE if whose == "ours" else printed_on(page, "/ws/transcribe")

    (final,) = run(program, client, tmp_path)

    assert "'type': 'final'" in final
    assert f"'text': '{texts(*range(20))}'" in final
