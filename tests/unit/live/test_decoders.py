"""What a decoder of live audio tells is checked: a stream may have taken it over."""

import asyncio
import socket

import pytest

from api.live.decoders import Decoder, Decoders
from api.live.errors import LiveError
from shared.speech.audio.decoded import HEADER, MAX_RECORD_BYTES, Kind, encode_record


class TakenOver(Decoders):
    """A decoder that tells what it was made with."""

    def __init__(self, told: bytes) -> None:
        super().__init__()
        self._told = told

    async def open(self, *, any_format: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        theirs.sendall(self._told)
        theirs.close()
        return await asyncio.open_unix_connection(sock=ours)


async def heard(told: bytes) -> list[bytes]:
    decoder = Decoder(TakenOver(told), any_format=False)
    try:
        return [piece async for piece in decoder.pieces()]
    finally:
        await decoder.close()


@pytest.mark.parametrize(
    "told",
    [
        encode_record(99),  # type: ignore[arg-type]
        encode_record(Kind.PCM, b"\0"),
        encode_record(Kind.CONSUMED, b"\0\0\0"),
        HEADER.pack(Kind.PCM, MAX_RECORD_BYTES + 1),
        encode_record(Kind.PCM, bytes(100))[:-1],
        b"",
    ],
    ids=["another kind", "half a sample", "no count", "too much", "less than said", "nothing"],
)
def test_what_no_decoder_tells_ends_the_session_as_a_death_does(told: bytes) -> None:
    with pytest.raises(LiveError) as lost:
        asyncio.run(heard(told))
    assert lost.value.code == "INTERNAL_ERROR"


def test_the_reason_of_a_refusal_is_short_text() -> None:
    with pytest.raises(LiveError) as refused:
        asyncio.run(heard(encode_record(Kind.UNREADABLE, b"\xff" * 100_000)))
    assert refused.value.code == "INVALID_MESSAGE"
    assert len(str(refused.value)) <= 300
