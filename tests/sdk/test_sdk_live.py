"""Live sessions by the SDK, against a peer of the protocol; test_cli_listen.py has the rest."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from longhand_sdk import AsyncLonghand, live
from longhand_sdk.errors import ConnectionFailed, LiveError
from longhand_sdk.live import LiveActivity, LiveEnded, LiveEvent, LiveFinal, LiveLost, LivePartial
from websockets.asyncio.server import ServerConnection, serve

from harness.peers.stt_peer import SttPeer, spoken, stt_peer

PIECE = 3200


def server_of(peer: SttPeer) -> str:
    return peer.url.replace("ws://", "http://").removesuffix("/ws/stt")


async def pieces(pcm: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), PIECE):
        yield pcm[at : at + PIECE]


def heard(peer: SttPeer, pcm: bytes) -> list[LiveEvent]:
    async def hear() -> list[LiveEvent]:
        async with (
            AsyncLonghand(server_of(peer)) as client,
            client.live(language="en", model="m") as session,
        ):
            return [event async for event in session.transcribe(pieces(pcm))]

    return asyncio.run(hear())


def finals(events: list[LiveEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, LiveFinal)]


def test_a_session_tells_partials_finals_and_its_end() -> None:
    with stt_peer() as peer:
        events = heard(peer, spoken(1, 2) + spoken(3))
    assert finals(events) == ["1 2", "3", ""]
    assert any(isinstance(event, LivePartial) and event.text == "1" for event in events)
    assert any(isinstance(event, LiveActivity) for event in events)
    assert isinstance(events[-1], LiveEnded)
    assert peer.started[0]["config"] == {"lang_code": "en", "model": "m", "sample_rate": 16_000}


def test_a_session_goes_on_over_a_new_connection_without_losing_a_word() -> None:
    with stt_peer(cut_at_s=[0.8, 0.2], resumes=True) as peer:
        events = heard(peer, spoken(1) + spoken(2, 3) + spoken(4))
    assert " ".join(finals(events)).split() == ["1", "2", "3", "4"]
    assert any(isinstance(event, LiveLost) for event in events)
    assert len(peer.started) == 3


def test_one_task_may_send_while_another_reads() -> None:
    async def hear(url: str) -> list[str]:
        async with AsyncLonghand(url) as client, client.live() as session:

            async def speak() -> None:
                await session.send(spoken(1, 2, silence_ms=0))
                await session.flush()
                await session.send(spoken(3, silence_ms=0))
                await session.end()

            speaking = asyncio.create_task(speak())
            texts = [event.text async for event in session if isinstance(event, LiveFinal)]
            await speaking
            return texts

    with stt_peer() as peer:
        assert asyncio.run(hear(server_of(peer))) == ["1 2", "3"]


def test_a_refusal_has_the_servers_code_and_a_server_that_is_gone_is_told() -> None:
    with stt_peer(refuse=["MAX_SESSIONS_REACHED"]) as peer:
        with pytest.raises(LiveError, match="no: MAX_SESSIONS_REACHED") as refused:
            heard(peer, spoken(1))
        assert refused.value.code == "MAX_SESSIONS_REACHED"
    with pytest.raises(ConnectionFailed, match="cannot reach ws://127"):
        heard(peer, spoken(1))


def test_an_error_of_the_audio_is_raised_after_what_was_heard_before_it() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield spoken(1)
        raise OSError("the microphone is gone")

    async def hear(url: str) -> None:
        async with AsyncLonghand(url) as client, client.live() as session:
            async for event in session.transcribe(broken()):
                told.append(event)  # noqa: PERF401 - the error must not cost what came before

    told: list[LiveEvent] = []
    with stt_peer() as peer, pytest.raises(OSError, match="the microphone is gone"):
        asyncio.run(hear(server_of(peer)))
    assert finals(told)[0] == "1"


def test_a_redirect_does_not_take_the_key_to_another_server() -> None:
    reached: list[bytes] = []

    async def run() -> None:
        async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.append(await reader.readline())
            writer.close()

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            there = f"ws://127.0.0.1:{port_of(other)}/"
            lines = ("HTTP/1.1 302 Found", f"Location: {there}", "Content-Length: 0", "", "")
            writer.write("\r\n".join(lines).encode())
            writer.close()

        async with (
            await asyncio.start_server(elsewhere, "127.0.0.1", 0) as other,
            await asyncio.start_server(redirect, "127.0.0.1", 0) as first,
            AsyncLonghand(f"http://127.0.0.1:{port_of(first)}", api_key="secret") as client,
        ):
            with pytest.raises(LiveError, match="answered 302"):
                async with client.live():
                    pass

    asyncio.run(run())
    assert reached == []


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


def test_a_server_that_never_begins_the_session_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "OPEN_LIMIT_S", 0.3)

    async def begin() -> None:
        async with (
            serve(ServerConnection.wait_closed, "127.0.0.1", 0) as server,
            AsyncLonghand(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client,
            client.live(),
        ):
            pytest.fail("the session has begun")

    with pytest.raises(ConnectionFailed, match="does not begin the session"):
        asyncio.run(begin())
