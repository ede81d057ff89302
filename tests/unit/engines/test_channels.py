"""Decoding a file's channels apart."""

import io

import numpy as np
import pytest

from harness.media.recipes import KINDS, Channels, at_rate, mux, wav
from shared.infra.errors import AudioTooLong, UnreadableMedia
from shared.speech.audio.rate import SAMPLE_RATE
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.engines.protocol import DecodeOptions
from worker.media.decode import decode
from worker.media.timeline import BLOCK_SAMPLES

MAX_DURATION_S = 3600


def spoken(n_channels: int, rate: int) -> tuple[Channels, list[list[str]]]:
    """Other words in every channel."""
    numbers = [range(channel * 100, channel * 100 + 8) for channel in range(n_channels)]
    rows = [at_rate(encode(words)[0], rate) for words in numbers]
    return np.stack(rows), [[word_text(number) for number in words] for words in numbers]


@pytest.mark.parametrize("name", ["wav s16", "wav 5.1", "flac", "m4a", "ogg opus", "mp3", "mpegts"])
def test_every_channel_holds_its_own_words(name: str) -> None:
    kind = KINDS[name]
    audio, words = spoken(kind.n_channels, kind.rate)

    blocks = list(decode(io.BytesIO(mux(kind, audio)), MAX_DURATION_S, apart=True))

    assert {block.shape for block in blocks[:-1]} == {(kind.n_channels, BLOCK_SAMPLES)}
    joined = np.concatenate(blocks, axis=1).astype(np.float32) / 32768
    if kind.n_channels == 6:  # the fourth is the subwoofer's, which codecs may cut
        joined, words = np.delete(joined, 3, axis=0), words[:3] + words[4:]
    heard = OracleEngine().transcribe(list(joined), DecodeOptions())
    assert [[word.text for word in found.words] for found in heard] == words


def test_channels_without_a_layout_stay_in_order() -> None:
    pcm = np.repeat(np.arange(1, 9, dtype=np.int16)[np.newaxis] * 1000, 4 * SAMPLE_RATE, axis=0)

    joined = np.concatenate(
        list(decode(io.BytesIO(wav(pcm, channels=8)), MAX_DURATION_S, apart=True)), axis=1
    )

    assert joined.shape == (8, 4 * SAMPLE_RATE)
    assert [int(np.median(row)) for row in joined] == list(range(1000, 9000, 1000))


def test_the_mix_is_the_mean_of_the_channels() -> None:
    pcm = np.random.default_rng(1).integers(-8000, 8000, (3 * SAMPLE_RATE // 2, 2), np.int16)
    file = wav(pcm, channels=2)

    mixed = np.concatenate(list(decode(io.BytesIO(file), MAX_DURATION_S)), axis=1)[0]
    apart = np.concatenate(list(decode(io.BytesIO(file), MAX_DURATION_S, apart=True)), axis=1)

    assert np.abs(apart.mean(axis=0) - mixed).max() <= 1


def test_a_hole_is_silence_in_every_channel() -> None:
    audio, _ = spoken(2, 48_000)
    late = mux(KINDS["mkv with pictures"], audio, audio_offset_s=1.5)

    joined = np.concatenate(list(decode(io.BytesIO(late), MAX_DURATION_S, apart=True)), axis=1)

    assert joined.shape[0] == 2
    assert not joined[:, :SAMPLE_RATE].any()
    assert joined[:, 2 * SAMPLE_RATE :].any(axis=1).all()


def test_channels_that_change_midway_are_refused_with_the_way_out() -> None:
    def adts(n_channels: int) -> bytes:
        return mux(KINDS["adts"], spoken(n_channels, 16_000)[0])

    changing = adts(1) + adts(2)  # as a broadcaster goes from one programme to the next

    assert len(list(decode(io.BytesIO(changing), MAX_DURATION_S))) > 4
    with pytest.raises(UnreadableMedia, match=r"channels changes .* all channels mixed"):
        list(decode(io.BytesIO(changing), MAX_DURATION_S, apart=True))


def test_the_limit_counts_the_timeline_not_the_channels() -> None:
    file = wav(np.zeros((2 * SAMPLE_RATE, 4), np.int16), channels=4)

    assert len(list(decode(io.BytesIO(file), 2, apart=True))) == 2
    with pytest.raises(AudioTooLong):
        list(decode(io.BytesIO(file), 1.9, apart=True))
