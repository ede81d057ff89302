"""The audio of a live session: a WAV file, or raw PCM on standard input."""

import os
import select
import sys
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from cli.errors import CommandError
from cli.transcribe.streams import STDIN
from shared.speech.audio.resampling import Resampler, s16le
from shared.speech.audio.samples import Samples

RATE = 16_000
"""Samples per second of a live session."""
PIECE_S = 0.04
"""How much of a file is sent at once."""


class Sound(Protocol):
    """Mono audio as it comes."""

    def pieces(self, ended: threading.Event) -> Iterator[bytes]:
        """Yield the audio, s16le at RATE, when it is due, until ``ended`` is set.

        Raises:
            CommandError: it cannot be read on.
            OSError: the same, by the system's words.
        """
        ...


@contextmanager
def open_sound(name: Path) -> Iterator[Sound]:
    """Yield the audio of a file, or of standard input for '-'.

    Raises:
        CommandError: it is no audio that a live session takes.
        OSError: it cannot be read.
    """
    if name == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise CommandError(
                "standard input: is a terminal; send PCM into it: "
                "arecord -f S16_LE -r 16000 -t raw | longhand listen -"
            )
        yield _Stdin(sys.stdin.fileno())
        return
    with name.open("rb") as file:
        try:
            reader = wave.open(file)  # noqa: SIM115 - closed below
        except (wave.Error, EOFError) as error:
            raise CommandError(
                f"{name}: is not a WAV file of PCM, and a live session takes no other; "
                "'longhand transcribe' takes any"
            ) from error
        with reader:
            yield _WavFile(reader)


class _WavFile:
    """A WAV file at its own pace."""

    def __init__(self, reader: wave.Wave_read) -> None:
        self._reader = reader

    def pieces(self, ended: threading.Event) -> Iterator[bytes]:
        rate = self._reader.getframerate()
        resampler = None if rate == RATE else Resampler(rate)
        start_s, read = time.monotonic(), 0
        for samples in self._samples(max(1, round(rate * PIECE_S))):
            if ended.wait(max(0.0, start_s + read / rate - time.monotonic())):
                return
            read += len(samples)
            yield s16le(samples if resampler is None else resampler.push(samples))
        if resampler is not None:
            yield s16le(resampler.rest())

    def _samples(self, size: int) -> Iterator[Samples]:
        n_channels, width_bytes = self._reader.getnchannels(), self._reader.getsampwidth()
        while frames := self._reader.readframes(size):
            yield _mono(frames, n_channels, width_bytes)


class _Stdin:
    """Raw PCM on standard input: s16le, mono, at RATE; whoever writes it sets the pace."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pieces(self, ended: threading.Event) -> Iterator[bytes]:
        while not ended.is_set():
            # A blocking read would not notice that the session has ended.
            if select.select([self._descriptor], [], [], 0.05)[0]:
                if not (piece := os.read(self._descriptor, round(RATE * PIECE_S) * 2)):
                    return
                yield piece


def _mono(frames: bytes, n_channels: int, width_bytes: int) -> Samples:
    """Return interleaved PCM of a WAV file as the mean of its channels, shape (n_samples,)."""
    whole = len(frames) - len(frames) % (n_channels * width_bytes)  # a file may be cut off
    values = np.frombuffer(frames, np.uint8, whole).reshape(-1, width_bytes)
    if width_bytes == 1:  # unsigned, by the format's definition
        samples = (values[:, 0].astype(np.int16) - 128) << 8
    else:  # the two upper bytes
        samples = np.ascontiguousarray(values[:, -2:]).view("<i2")[:, 0]
    mixed: Samples = samples.reshape(-1, n_channels).mean(axis=1, dtype=np.float32)
    mixed /= 32768
    return mixed
