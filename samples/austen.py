"""Make austen.flac, a person's voice, from the source distribution of pocketsphinx 5.1.1.

    python -m pip download --no-deps --no-binary :all: pocketsphinx==5.1.1
    .venv/bin/python samples/austen.py pocketsphinx-5.1.1.tar.gz

Its tests have sentences of LibriVox's recording of Jane Austen's Sense and Sensibility, chapter 1.
LibriVox dedicates its recordings to the public domain, and the novel is of 1811. Here are three
that follow each other, each with the pause around it as it was read.
"""

import sys
import tarfile
import wave
from pathlib import Path

import av
import numpy as np

FOLDER = "pocketsphinx-5.1.1/test/data/librivox"
SENTENCES = ("0870", "0880", "0890")
RATE, BLOCK = 16_000, 4_096


def main(archive: str) -> None:
    """Write the sentences as one file."""
    parts = []
    with tarfile.open(archive) as tar:
        for sentence in SENTENCES:
            file = tar.extractfile(f"{FOLDER}/sense_and_sensibility_01_austen_64kb-{sentence}.wav")
            assert file is not None
            with file, wave.open(file) as sound:
                assert sound.getframerate() == RATE
                parts.append(np.frombuffer(sound.readframes(sound.getnframes()), "<i2"))
    samples = np.concatenate(parts)
    with av.open(str(Path(__file__).with_suffix(".flac")), "w") as target:
        stream = target.add_stream("flac", rate=RATE, layout="mono", format="s16")
        for at in range(0, len(samples), BLOCK):
            block = np.ascontiguousarray(samples[None, at : at + BLOCK])
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, at
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))


if __name__ == "__main__":
    main(sys.argv[1])
