"""What the plugin's tests share."""

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from livekit import rtc
from livekit.agents import utils
from livekit.plugins import longhand
from speech import LIMIT_S, ROOT, read_frames


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a platform that serves whisper-tiny.en, without a slash at its end."""
    data = tmp_path_factory.mktemp("platform")
    command = [str(ROOT / ".venv/bin/python"), "-P", "-m", "cli.main", "up", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", "whisper-tiny.en", "--data", str(data)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LONGHAND_LIVE_MAX_WAIT_MS": str(LIMIT_S * 1000),  # slow machines take sessions, too
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    ready = next((line for line in lines if line.startswith("ready ")), None)
    assert ready is not None, "the platform did not start"
    yield ready.split()[1].rstrip("/")
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="session")
def url(platform: str) -> str:
    """The WebSocket of that platform."""
    return platform.replace("http://", "ws://") + "/ws/stt"


@pytest.fixture(scope="session")
def frames() -> list[rtc.AudioFrame]:
    """A person's voice, in frames of 10 ms."""
    return read_frames()


@pytest_asyncio.fixture
async def make_stt() -> AsyncIterator[Callable[..., longhand.STT]]:
    """Make plugins as a job of LiveKit's would: its HTTP session is there."""
    made: list[longhand.STT] = []

    def make(url: str, **options: object) -> longhand.STT:
        made.append(longhand.STT(url=url, **options))
        return made[-1]

    async with utils.http_context.open():
        yield make
        for plugin in made:
            await plugin.aclose()
