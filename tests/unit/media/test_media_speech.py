"""Real speech through the map of times: what is said is found where the file's clock has it."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from harness.media.recipes import KINDS, at_rate, encode, mux
from shared.speech.audio.rate import SAMPLE_RATE
from worker.media.decode import decode
from worker.media.findings import Findings

SAMPLES = Path(__file__).parents[3] / "samples"
PART_S = 0.5
REPEATS = 5

Sound = npt.NDArray[np.float32]


def decoded(data: bytes) -> tuple[Sound, Findings]:
    findings = Findings()
    blocks = list(decode(io.BytesIO(data), 600, findings=findings))
    return np.concatenate(blocks, axis=1)[0].astype(np.float32) / 32768, findings


@pytest.fixture(scope="module")
def speech() -> Sound:
    """Two recordings, one after the other, several times, each time at another level."""
    both = [decoded((SAMPLES / name).read_bytes())[0] for name in ("hello.wav", "weather.flac")]
    once = np.concatenate(both)
    return np.concatenate([once * (0.9 - 0.15 * index) for index in range(REPEATS)])


@pytest.fixture(scope="module")
def encoded(speech: Sound) -> bytes:
    return encode("webm opus", at_rate(speech, 48_000)[np.newaxis])


def remuxed(data: bytes, muxer: str, move: dict[str, float] | None = None) -> bytes:
    """Copy packets with other stamps: ``speed``, ``jitter_s``, ``step_s`` back every 300th."""
    move = move or {}
    rng = np.random.default_rng(7)
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format=muxer) as target:
        track = source.streams.audio[0]
        copy = target.add_stream_from_template(track)
        last = -1
        for index, packet in enumerate(source.demux(track)):
            if packet.pts is None or packet.time_base is None:
                continue
            at_s = float(packet.pts * packet.time_base) * move.get("speed", 1.0)
            at_s += rng.uniform(-1, 1) * move.get("jitter_s", 0.0)
            at_s -= index // 300 * move.get("step_s", 0.0)
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = last = max(last + 1, round(at_s * 1000))
            packet.stream = copy
            target.mux(packet)
    return buffer.getvalue()


def found_at(heard: Sound, part: Sound, near: int) -> tuple[int, float]:
    """Return where a part is best found within half a second of ``near``, and how alike it is."""
    start = max(0, near - SAMPLE_RATE // 2)
    within = heard[start : near + len(part) + SAMPLE_RATE // 2]
    products = np.correlate(within, part, "valid")
    sums = np.cumsum(np.concatenate([[0.0], np.square(within, dtype=np.float64)]))
    energies = sums[len(part) :] - sums[: -len(part)]
    alike = products / np.sqrt(np.maximum(energies * float(part @ part), 1e-9))
    best = int(alike.argmax())
    return start + best, float(alike[best])


@pytest.mark.parametrize(
    "move", [{}, {"jitter_s": 0.015}, {"speed": 0.99}, {"speed": 1.01}, {"step_s": 0.03}]
)
def test_speech_is_where_wandering_stamps_have_it(
    speech: Sound, encoded: bytes, move: dict[str, float]
) -> None:
    heard, findings = decoded(remuxed(encoded, "matroska", move))

    assert abs(len(heard) - len(speech)) < 0.03 * SAMPLE_RATE, "nothing is stretched or lost"
    part = int(PART_S * SAMPLE_RATE)
    n_found = 0
    for start in range(3 * SAMPLE_RATE, len(speech) - 3 * SAMPLE_RATE, SAMPLE_RATE):
        said = speech[start : start + part]
        if np.sqrt(np.mean(said**2)) < 0.02:
            continue
        at, alike = found_at(heard, said, start)
        due_s = start / SAMPLE_RATE * move.get("speed", 1.0)
        due_s -= int(start / SAMPLE_RATE / 0.02) // 300 * move.get("step_s", 0.0)
        assert alike > 0.9
        assert findings.times.time_of(at) / SAMPLE_RATE == pytest.approx(due_s, abs=0.04)
        n_found += 1
    assert n_found >= 5


def test_speech_that_a_segment_repeats_is_heard_once(speech: Sound) -> None:
    data = mux(KINDS["mpegts"], speech[np.newaxis])
    packets = len(data) // 188
    middle, overlap = packets // 2 * 188, packets // 16 * 188

    heard, _ = decoded(data[:middle] + data[middle - overlap :])

    assert abs(len(heard) - len(speech)) < 0.25 * SAMPLE_RATE
    for start in (SAMPLE_RATE, len(speech) - 2 * SAMPLE_RATE):
        said = speech[start : start + SAMPLE_RATE]
        at, alike = found_at(heard, said, start)
        assert alike > 0.9
        assert (at - start) / SAMPLE_RATE == pytest.approx(0.064, abs=0.1)


def test_speech_whose_channels_cancel_each_other_out_is_heard(speech: Sound) -> None:
    stereo = np.stack([speech, -0.9 * speech])

    heard, findings = decoded(mux(KINDS["wav s16"], np.stack([at_rate(c, 44_100) for c in stereo])))

    said = speech[: len(heard)]
    assert np.corrcoef(heard[: len(said)], said)[0, 1] > 0.99
    assert [warning.code for warning in findings.warnings] == ["channels_cancel"]
