"""The 8-bit samples of telephones."""

import av
import numpy as np
import pytest

from shared.speech.audio.companding import Law, expand


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_every_code_is_the_sample_that_ffmpeg_makes_of_it(law: Law) -> None:
    codes = bytes(range(256))
    decoder = av.CodecContext.create(f"pcm_{law}", "r")
    decoder.sample_rate, decoder.layout = 8_000, "mono"
    (frame,) = decoder.decode(av.Packet(codes))
    expected = frame.to_ndarray()[0].astype("<i2")

    assert np.frombuffer(expand(codes, law), "<i2").tolist() == expected.tolist()
