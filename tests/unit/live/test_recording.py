"""The audio of a saved session, on its way to the object store."""

import asyncio

import numpy as np
import pytest

from api.live import recording
from api.live.recording import Recording
from shared.models.options import JobOptions
from shared.speech.live.events import EndReason


def pcm(start: int, end: int) -> bytes:
    """Return samples that tell their positions."""
    return np.arange(start, end, dtype="<i2").tobytes()


async def stays() -> bool:
    return True


@pytest.mark.parametrize("position", [30, 40, 55])
def test_a_recording_goes_on_with_audio_that_comes_again(position: int) -> None:
    async def record() -> tuple[bytes, list[tuple[int, str]]]:
        paused: dict[str, Recording] = {}
        recorded = Recording(JobOptions(), 0, lambda: None, paused)
        recorded.hear(pcm(0, 60))
        recorded.add_final(30, "one")
        recorded.release(40)
        recorded.add_final(60, "two")
        recorded.pause("before", stays)
        recorded.end(EndReason.ERROR, goes_on=True)  # as the session ends
        assert paused == {"before": recorded}

        recorded.go_on(position, lambda: None)
        for start in range(position, 100, 7):
            recorded.hear(pcm(start, min(start + 7, 100)))
        recorded.end(EndReason.COMPLETED, goes_on=True)

        assert paused == {}
        return b"".join([piece async for piece in recorded.data()]), recorded._finals

    data, finals = asyncio.run(asyncio.wait_for(record(), 20))
    assert data[44:] == pcm(0, 100)
    assert finals == [(30, "one")]


@pytest.mark.parametrize(("is_left", "n_samples"), [(True, 60), (False, 40)])
def test_a_recording_that_nobody_goes_on_with_here_has_what_no_other_process_records(
    monkeypatch: pytest.MonkeyPatch, is_left: bool, n_samples: int
) -> None:
    monkeypatch.setattr(recording, "GO_ON_S", 0.05)

    async def withdraw() -> bool:
        return is_left

    async def record() -> bytes:
        recorded = Recording(JobOptions(), 0, lambda: None, {})
        recorded.hear(pcm(0, 60))
        recorded.release(40)
        recorded.pause("before", withdraw)
        return b"".join([piece async for piece in recorded.data()])

    data = asyncio.run(asyncio.wait_for(record(), 20))
    assert data[44:] == pcm(0, n_samples)


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
