"""The audio of a saved session, on its way to the object store."""

import asyncio

import pytest

from api.live import recording
from api.live.recording import Recording
from shared.models.options import JobOptions


def test_a_recording_ends_at_its_limit_although_no_audio_comes_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "LIMIT_S", 0.05)

    async def record() -> list[bytes]:
        recorded = Recording(JobOptions(), 0, lambda: None)
        recorded.hear(b"abcd")
        recorded.release(2)
        return [piece async for piece in recorded.data()]

    (piece,) = asyncio.run(asyncio.wait_for(record(), 20))
    assert piece[44:] == b"abcd"
