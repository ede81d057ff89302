"""Every kind of file we open, through decoding and the oracle: all words, at their times."""

import io

import numpy as np
import pytest

from harness.media.recipes import KINDS, MORE_KINDS, Channels, at_rate, mux
from shared.speech.chunks.hypothesis import Hypothesis
from worker.engines.oracle import EncodedWord, OracleEngine, word_text
from worker.engines.oracle import encode as encode_words
from worker.engines.protocol import DecodeOptions
from worker.media.decode import decode

WORDS = range(0x1234, 0xFFFF, 0x1F2F)
TOLERANCE_S = 0.01
"""A fifth of a phoneme. AMR's decoder is 5 ms late; all others are within half a millisecond."""
FULL_RANGE_CHANNELS = {1: [0], 2: [0, 1], 6: [0, 1, 2, 4, 5]}
"""Of 5.1 sound the fourth channel is the subwoofer's, which no one speaks from."""


def spoken(rate: int, n_channels: int) -> tuple[Channels, list[EncodedWord]]:
    """Words that the channels say in turn, so that one that is not heard is missed."""
    samples, places = encode_words(WORDS, gap_s=0.15)
    audio = np.zeros((n_channels, len(samples)), np.float32)
    speakers = FULL_RANGE_CHANNELS[n_channels]
    for index, place in enumerate(places):
        speaker = speakers[index % len(speakers)]
        audio[speaker, place.start : place.end] = samples[place.start : place.end]
    return np.stack([at_rate(channel, rate) for channel in audio]), places


def hear(data: bytes) -> Hypothesis:
    blocks = decode(io.BytesIO(data), 60)
    samples = np.concatenate(list(blocks), axis=1)[0].astype(np.float32) / 32768
    return OracleEngine().transcribe([samples], DecodeOptions())[0]


@pytest.mark.parametrize("name", [*KINDS, *MORE_KINDS])
def test_every_word_comes_out_at_its_time(name: str) -> None:
    kind = (KINDS | MORE_KINDS)[name]
    audio, places = spoken(kind.rate, kind.n_channels)

    heard = hear(mux(kind, audio)).words

    assert [word.text for word in heard] == [word_text(place.number) for place in places]
    for word, place in zip(heard, places, strict=True):
        late_s = (np.array([word.start, word.end]) - (place.start, place.end)) / 16_000
        assert late_s == pytest.approx(kind.late_s, abs=TOLERANCE_S)
