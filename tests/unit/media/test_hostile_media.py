"""Media made to do harm: each file ends in a clear error, and nothing else happens."""

import errno
import io
import os
import re
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from harness.media import mutants
from harness.media.recipes import KINDS, Kind, encode, mux, noise, ten_hours_of_silence, wav
from shared.infra.errors import AudioOutOfBounds, AudioTooLong, MediaError, UnreadableMedia
from shared.speech.audio.rate import SAMPLE_RATE
from worker.media.container import FORMATS
from worker.media.decode import decode

MAX_DURATION_S = 3600
N_MUTANTS = 60
"""Every kind of file, and every mutation."""
N_SOAK_MUTANTS = 500
"""Every mutation of every kind of file, twice."""

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    '<AdaptationSet contentType="audio"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na={}\n",
}


def consume(data: bytes, max_duration_s: float = MAX_DURATION_S) -> None:
    for _ in decode(io.BytesIO(data), max_duration_s):
        pass


def secret() -> bytes:
    return wav((noise(1, SAMPLE_RATE) * 32767).astype(np.int16))


class Bait:
    """A server and two files; each knows whether somebody came for it."""

    def __init__(self, directory: Path, server: socket.socket) -> None:
        self._server = server
        self._pipe = directory / "pipe.wav"
        # Whoever opens a pipe for reading waits for its writer: a decoder that did would hang.
        os.mkfifo(self._pipe)
        readable = directory / "secret.wav"
        readable.write_bytes(secret())
        port = server.getsockname()[1]
        self.urls = [
            *(str(self._pipe), f"file://{self._pipe}"),
            *("secret.wav", str(readable), f"file:{readable}", f"file://{readable}"),
            *(f"http://127.0.0.1:{port}/a.wav", f"tcp://127.0.0.1:{port}"),
        ]
        self.web = f"http://127.0.0.1:{port}/a.wav"

    def assert_untouched(self) -> None:
        with pytest.raises(BlockingIOError):
            self._server.accept()
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):  # it has no reader
            os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
def bait(tmp_path: Path, server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Bait:
    monkeypatch.chdir(tmp_path)
    return Bait(tmp_path, server)


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("ending", ["m3u8", "mp3", "wav", "txt"])
def test_a_playlist_opens_neither_files_nor_connections(
    kind: str, ending: str, bait: Bait, tmp_path: Path
) -> None:
    for url in bait.urls:
        named = tmp_path / f"list.{ending}"
        named.write_text(PLAYLISTS[kind].format(url))
        with named.open("rb") as source, pytest.raises(UnreadableMedia, match="not audio or video"):
            list(decode(source, MAX_DURATION_S))

    bait.assert_untouched()


def test_the_bait_is_taken_where_ffmpeg_is_given_room(bait: Bait, tmp_path: Path) -> None:
    """Proof that the test above can fail."""
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(PLAYLISTS["hls"].format(bait.web))

    with pytest.raises(av.FFmpegError):
        av.open(str(playlist), options={"protocol_whitelist": "file,http,tcp"}, timeout=0.3)

    bait._server.accept()[0].close()


def test_even_a_format_that_refers_to_other_files_could_not_open_them(
    monkeypatch: pytest.MonkeyPatch, bait: Bait
) -> None:
    monkeypatch.setattr("worker.media.container.FORMATS", FORMATS | {"concat", "hls"})

    for url in bait.urls:
        for kind in ("ffconcat", "hls"):
            with pytest.raises(UnreadableMedia):
                consume(PLAYLISTS[kind].format(url).encode())
    bait.assert_untouched()


@pytest.mark.parametrize(
    ("rate", "channels", "complaint"),
    [
        (1, 1, "1 Hz is outside 4,000 to 384,000 Hz"),
        (3999, 1, "3,999 Hz is outside"),
        (384_001, 1, "384,001 Hz is outside"),
        (10**9, 1, "1,000,000,000 Hz is outside"),
        (16_000, 9, "9 channels; 1 to 8 are supported"),
        (16_000, 64, "64 channels; 1 to 8 are supported"),
    ],
)
def test_absurd_rates_and_channel_counts_are_out_of_bounds(
    rate: int, channels: int, complaint: str
) -> None:
    with pytest.raises(AudioOutOfBounds, match=complaint):
        consume(wav(np.zeros(channels * 1000, np.int16), rate, channels))


def test_a_small_file_of_ten_hours_is_given_up_at_the_limit_in_little_memory() -> None:
    data = ten_hours_of_silence()
    assert len(data) < 5_000_000
    source = io.BytesIO(data)
    lengths = (block.shape[1] for block in decode(source, 300))
    tracemalloc.start()

    assert sum(islice(lengths, 300)) == 300 * SAMPLE_RATE
    with pytest.raises(AudioTooLong, match=r"longer than 5 minutes \(LONGHAND_MAX_DURATION_S\)"):
        list(lengths)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.tell() < len(data) / 2, "it stops early"
    assert peak_bytes < 5_000_000


@pytest.mark.parametrize("name", ["caf", "w64"])
def test_a_chunk_longer_than_any_file_is_no_position_to_seek(name: str) -> None:
    data = bytearray(encode(name))
    first_length = {"caf": 12, "w64": 56}[name]
    data[first_length : first_length + 8] = b"\xff" * 8

    with pytest.raises(MediaError):
        consume(bytes(data))


def test_tags_in_an_unknown_encoding_do_not_matter() -> None:
    data = bytearray(mux(Kind("mp3", "libmp3lame", 16_000), noise(1, 16_000)[np.newaxis]))
    tag = b"TIT2" + (8).to_bytes(4, "big") + b"\0\0" + b"\3" + b"\xe1\xff\xc0rger"
    data[:0] = b"ID3\4\0\0" + (len(tag)).to_bytes(4, "big") + tag

    blocks = decode(io.BytesIO(data), MAX_DURATION_S)
    assert sum(block.shape[1] for block in blocks) == SAMPLE_RATE


def assert_mutants_end_well(n_mutants: int) -> None:
    """Judge them in a process of their own: one that a mutant ends has failed."""
    program = str(Path(mutants.__file__))
    judged = subprocess.run(
        [sys.executable, program, "0", str(n_mutants)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert judged.returncode == 0, f"{judged.stdout.splitlines()[-1]}\n{judged.stderr}"
    assert judged.stderr == ""
    outcomes = re.findall(r" -> (\w+)\n", judged.stdout)
    assert len(outcomes) == n_mutants
    share_of_audio = outcomes.count("audio") / n_mutants
    assert 0.2 < share_of_audio < 0.8, "the damage is such that both ends are met often"


def test_every_damaged_file_ends_in_audio_or_in_a_media_error() -> None:
    kinds_of_damage = [mutants.describe(number).partition(": ")[2] for number in range(N_MUTANTS)]
    assert {kind.split(", ")[0] for kind in kinds_of_damage} == KINDS.keys()
    assert {kind.split(", ")[1] for kind in kinds_of_damage} == {
        mutation.__name__ for mutation in mutants.MUTATIONS
    }

    assert_mutants_end_well(N_MUTANTS)


@pytest.mark.soak
def test_every_kind_of_file_ends_well_under_every_mutation() -> None:
    assert len(KINDS) * len(mutants.MUTATIONS) < N_SOAK_MUTANTS
    assert_mutants_end_well(N_SOAK_MUTANTS)
