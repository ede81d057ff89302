"""Sound for a live session: WAV files of any PCM become s16le, mono, 16 kHz; a terminal's line."""

import struct
import threading
import wave
from pathlib import Path

import numpy as np
import pytest

from cli.errors import CommandError
from cli.listen.captions import last_columns
from cli.listen.sound import RATE, open_sound


def heard(path: Path) -> list[int]:
    with open_sound(path) as sound:
        pcm = b"".join(sound.pieces(threading.Event()))
    return list(struct.unpack(f"<{len(pcm) // 2}h", pcm))


def write(
    path: Path, frames: bytes, *, channels: int = 1, width: int = 2, rate: int = RATE
) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", "not compressed"))
        file.writeframes(frames)
    return path


@pytest.mark.parametrize(
    ("width", "frames"),
    [
        (1, bytes([128, 255, 0])),
        (2, struct.pack("<3h", 0, 0x7F00, -0x8000)),
        (3, b"\x11\x00\x00\x11\x00\x7f\x11\x00\x80"),
        (4, struct.pack("<3i", 0x1111, 0x7F001111, -0x80000000)),
    ],
)
def test_samples_of_any_width_are_heard_in_16_bits(
    tmp_path: Path, width: int, frames: bytes
) -> None:
    assert heard(write(tmp_path / "a.wav", frames, width=width)) == [0, 0x7F00, -0x8000]


def test_channels_are_mixed_down(tmp_path: Path) -> None:
    frames = struct.pack("<4h", 100, 300, -30_000, -20_000)
    assert heard(write(tmp_path / "a.wav", frames, channels=2)) == [200, -25_000]


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_file_of_another_rate_is_resampled_without_seams(tmp_path: Path, rate: int) -> None:
    """A tone stays the tone, in place: across pieces of 40 ms, to its end."""
    tone = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(rate // 4) / rate)
    path = write(tmp_path / "a.wav", (tone * 32767).astype("<i2").tobytes(), rate=rate)
    found = np.array(heard(path)) / 32767
    wanted = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(len(found)) / RATE)
    assert abs(len(found) - RATE // 4) <= 64
    inner = slice(100, RATE // 4 - 100)
    assert np.abs(found[inner] - wanted[inner]).max() < 0.002


def test_sound_that_the_session_cannot_hold_leaves_no_alias(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 9_000 * np.arange(12_000) / 48_000)
    path = write(tmp_path / "a.wav", (tone * 32767).astype("<i2").tobytes(), rate=48_000)
    assert np.abs(heard(path)[100:-100]).max() < 100


def test_a_file_that_is_cut_off_is_heard_to_its_last_whole_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", struct.pack("<4h", 100, 300, 500, 700), channels=2)
    path.write_bytes(path.read_bytes()[:-1])
    assert heard(path) == [200]


def test_a_file_is_heard_no_further_once_the_session_has_ended(tmp_path: Path) -> None:
    ended = threading.Event()
    with open_sound(write(tmp_path / "a.wav", bytes(2 * RATE))) as sound:
        pieces = sound.pieces(ended)
        next(pieces)
        ended.set()
        assert list(pieces) == []


@pytest.mark.parametrize("content", [b"", b"ID3 something else", b"RIFF\x04\x00\x00\x00WAVE"])
def test_what_is_no_wav_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    with pytest.raises(CommandError, match="is not a WAV file of PCM"), open_sound(path):
        pass


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("as long", 7, "as long"),
        ("one too long", 11, "…e too long"),
        ("漢字漢字", 6, "…漢字"),
        ("漢字漢字", 7, "…字漢字"),
        ("", 5, ""),
    ],
)
def test_a_line_shows_the_end_of_the_text_that_fits(text: str, columns: int, shown: str) -> None:
    assert last_columns(text, columns) == shown
