"""What the plugin's tests share."""

from collections.abc import AsyncIterator, Callable

import pytest_asyncio
from livekit.agents import utils
from livekit.plugins import longhand


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
