"""Voice activity detection: what is kept, what is left out, and when it is known."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.media.vowels import vowels
from harness.repository.tree import ROOT
from shared.infra.errors import ModelError
from shared.infra.onnx_format import Graph
from shared.speech.audio import silero
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm, Samples
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import (
    LOOK_BACK_SAMPLES,
    MAX_LAG_SAMPLES,
    PADDING_SAMPLES,
    WINDOW_SAMPLES,
    EnergyVad,
    SileroVad,
    Vad,
    make_vad,
)
from shared.speech.names import VAD_NAMES
from worker.media.decode import decode


def silence(duration_s: float) -> Pcm:
    return np.zeros(int(duration_s * SAMPLE_RATE), np.int16)


@cache
def recording() -> Pcm:
    """Speech at 2-5 s and 8-10 s of 12 s."""
    return np.concatenate([silence(2), vowels(3), silence(3), vowels(2), silence(2)])


def detect(vad: Vad, blocks: Iterable[Pcm]) -> list[Span]:
    """Run ``vad``, check that spans come in order, and join those that touch."""
    spans = [span for block in blocks for span in vad.push(block)] + vad.finish()
    assert all(span.start < span.end for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    joined: list[Span] = []
    for span in spans:
        touches = joined and joined[-1].end == span.start
        joined.append(Span(joined.pop().start if touches else span.start, span.end))
    return joined


def split(audio: Pcm, ends: list[int]) -> list[Pcm]:
    return np.split(audio, sorted(ends))


@pytest.mark.parametrize("make", [SileroVad, EnergyVad])
def test_all_speech_is_kept_and_long_silence_is_left_out(make: Callable[[], Vad]) -> None:
    spans = detect(make(), [recording()])

    assert len(spans) == 2
    for span, (start_s, end_s) in zip(spans, [(2, 5), (8, 10)], strict=True):
        assert start_s - 0.5 <= span.start / SAMPLE_RATE <= start_s
        assert end_s <= span.end / SAMPLE_RATE <= end_s + 0.6


@pytest.mark.parametrize("name", VAD_NAMES)
@given(ends=st.lists(st.integers(0, 12 * SAMPLE_RATE), max_size=20))
@settings(max_examples=15)
def test_result_does_not_depend_on_how_audio_is_split(name: str, ends: list[int]) -> None:
    assert detect(make_vad(name), split(recording(), ends)) == detect(make_vad(name), [recording()])


@pytest.mark.parametrize("name", VAD_NAMES)
@pytest.mark.parametrize("block_samples", [160, SAMPLE_RATE])
def test_speech_is_released_within_the_promised_lag(name: str, block_samples: int) -> None:
    vad, audio = make_vad(name), recording()
    released_at = []
    for end in range(block_samples, len(audio) + 1, block_samples):
        for span in vad.push(audio[end - block_samples : end]):
            assert span.end <= end
            released_at.append(end - block_samples - span.start)

    assert released_at
    assert max(released_at) <= MAX_LAG_SAMPLES


@pytest.mark.parametrize("name", ["silero", "energy"])
def test_silence_and_nothing_hold_no_speech(name: str) -> None:
    assert detect(make_vad(name), [silence(5.01)]) == []
    assert detect(make_vad(name), []) == []


def test_music_like_tone_is_speech_by_energy_but_not_by_silero() -> None:
    t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    tone = (8000 * np.sin(2 * np.pi * 1000 * t)).astype(np.int16)

    assert detect(SileroVad(), [tone]) == []
    assert detect(EnergyVad(), [tone]) == [Span(0, len(tone))]


def test_without_vad_every_sample_is_speech() -> None:
    assert detect(make_vad("off"), [silence(1.5), silence(0.25)]) == [Span(0, 28_000)]


def test_energy_threshold_is_in_decibels_below_full_scale() -> None:
    square = np.full(SAMPLE_RATE, 3277, np.int16)  # RMS 0.1 of full scale: -20 dBFS

    assert detect(EnergyVad(threshold_dbfs=-20.1), [square]) == [Span(0, SAMPLE_RATE)]
    assert detect(EnergyVad(threshold_dbfs=-19.9), [square]) == []


def test_a_click_is_not_speech_but_two_windows_are() -> None:
    def burst(n_samples: int) -> Pcm:
        audio = silence(3)
        start = 50 * WINDOW_SAMPLES
        audio[start : start + n_samples] = 9000
        return audio

    assert detect(EnergyVad(), [burst(WINDOW_SAMPLES)]) == []
    assert detect(EnergyVad(), [burst(2 * WINDOW_SAMPLES)]) == [
        Span(50 * WINDOW_SAMPLES - PADDING_SAMPLES, 52 * WINDOW_SAMPLES + PADDING_SAMPLES)
    ]


def test_pauses_shorter_than_the_padding_are_bridged_and_longer_ones_are_not() -> None:
    def pause(n_windows: int) -> Pcm:
        loud = np.full(20 * WINDOW_SAMPLES, 9000, np.int16)
        return np.concatenate([loud, np.zeros(n_windows * WINDOW_SAMPLES, np.int16), loud])

    assert len(detect(EnergyVad(), [pause(25)])) == 1
    assert len(detect(EnergyVad(), [pause(26)])) == 2


def test_speech_goes_on_at_a_lower_level_after_a_short_dip() -> None:
    def level(dbfs: float, n_windows: int) -> Pcm:
        return np.full(n_windows * WINDOW_SAMPLES, round(32768 * 10 ** (dbfs / 20)), np.int16)

    loud, faint = level(-20, 20), level(-53, 60)
    short_dip, long_dip = level(-90, 2), level(-90, 5)

    assert detect(EnergyVad(), [loud, short_dip, faint]) == [Span(0, 82 * WINDOW_SAMPLES)]
    assert detect(EnergyVad(), [loud, long_dip, faint]) == [
        Span(0, 20 * WINDOW_SAMPLES + PADDING_SAMPLES)
    ]


def test_quiet_speech_that_leads_up_to_louder_speech_is_kept() -> None:
    def level(dbfs: float, n_windows: int) -> Pcm:
        return np.full(n_windows * WINDOW_SAMPLES, round(32768 * 10 ** (dbfs / 20)), np.int16)

    silent, loud, faint = level(-120, 100), level(-10, 20), level(-53, 20)
    start = 100 * WINDOW_SAMPLES - PADDING_SAMPLES

    assert detect(EnergyVad(), [loud, silent, faint, loud])[1].start == start + len(loud)
    assert len(detect(EnergyVad(), [loud, silent, faint])) == 1  # nothing louder follows
    long = level(-53, 100)
    assert detect(EnergyVad(), [loud, silent, long, loud])[1].start == (
        start + len(loud) + len(long) - LOOK_BACK_SAMPLES
    )


@pytest.mark.parametrize("make", [SileroVad, EnergyVad])
@pytest.mark.parametrize("quieter_db", [20, 40])
def test_a_quiet_recording_has_the_spans_of_a_loud_one(
    make: Callable[[], Vad], quieter_db: int
) -> None:
    usual = detect(make(), [recording()])
    quiet = np.round(recording() / 10 ** (quieter_db / 20)).astype(np.int16)

    assert len(usual) == 2
    for span, same in zip(detect(make(), [quiet]), usual, strict=True):
        assert abs(span.start - same.start) <= 8 * WINDOW_SAMPLES
        assert abs(span.end - same.end) <= 8 * WINDOW_SAMPLES


def read_aloud() -> Pcm:
    """A person's voice."""
    with (ROOT / "samples" / "austen.flac").open("rb") as file:
        return np.concatenate([block[0] for block in decode(file, 60)])


@pytest.mark.parametrize("speech", [recording, read_aloud])
def test_batches_are_judged_as_the_published_network_judges_one_long_run(
    speech: Callable[[], Pcm],
) -> None:
    vad, audio = SileroVad(), speech()[: 360 * WINDOW_SAMPLES]
    batches = audio.reshape(-1, 12, WINDOW_SAMPLES)

    probabilities = np.concatenate([vad._judge(batch) for batch in batches / np.float32(32768)])

    with_context = np.concatenate([np.zeros(64), audio / 32768]).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(with_context, 576)[::WINDOW_SAMPLES]
    state = np.zeros((1, 1, 128), np.float32)
    package = find_spec("faster_whisper")
    assert package is not None
    assert package.origin is not None
    published = onnxruntime.InferenceSession(
        Path(package.origin).parent / "assets" / "silero_vad_v6.onnx"
    )
    expected = published.run(None, {"input": windows, "h": state, "c": state})[0]
    assert expected.min() < 0.1
    assert expected.max() > 0.9
    assert np.abs(probabilities - expected).max() < 1e-4


@pytest.mark.parametrize(
    "file", [None, b"", b"\x3a\x7f not a whole model", Graph("another").to_bytes({}, {})]
)
def test_a_package_with_another_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: bytes | None
) -> None:
    (tmp_path / "assets").mkdir()
    if file is not None:
        (tmp_path / "assets" / "silero_vad_v6.onnx").write_bytes(file)
    package = ModuleSpec("faster_whisper", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(silero, "find_spec", lambda _: package)

    with pytest.raises(ModelError, match="no Silero VAD that is known"):
        silero._session.__wrapped__()


def test_speech_at_the_very_end_stops_with_the_audio() -> None:
    audio = np.concatenate([silence(1), np.full(10_001, 9000, np.int16)])

    assert detect(EnergyVad(), [audio])[-1].end == len(audio)


def test_importing_the_module_loads_neither_onnxruntime_nor_ctranslate2() -> None:
    code = (
        "import sys, shared.speech.audio.voice_activity as v;"
        "assert 'onnxruntime' not in sys.modules;"
        "v.make_vad('silero'); assert not {'ctranslate2', 'faster_whisper'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_are_had_without_numpy() -> None:
    code = (
        "import sys, shared.models.options, cli.main; assert 'numpy' not in sys.modules;"
        "from shared.speech.names import VAD_NAMES; assert VAD_NAMES"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("seconds", [1, 7])
def test_without_a_detector_digital_silence_is_heard_for_half_a_minute(seconds: int) -> None:
    sound = np.ones(5 * SAMPLE_RATE, np.int16)
    pcm = np.concatenate([silence(40), sound, silence(29), sound, silence(31)])
    vad, spans, size = make_vad("off"), [], seconds * SAMPLE_RATE
    for start in range(0, len(pcm), size):
        spans += vad.push(pcm[start : start + size])
    spans += vad.finish()
    heard = np.zeros(len(pcm), np.bool_)
    for span in spans:
        heard[span.start : span.end] = True
    edges = np.flatnonzero(np.diff(heard)) + 1
    assert heard[0]
    assert (edges / SAMPLE_RATE).tolist() == [30, 40, 109]


def test_long_digital_silence_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    vad, judged = SileroVad(), 0
    judge = vad._judge

    def counted(windows: Samples) -> npt.NDArray[np.float64]:
        nonlocal judged
        judged += windows.size
        return judge(windows)

    monkeypatch.setattr(vad, "_judge", counted)
    spans = vad.push(silence(300)) + vad.push(recording()) + vad.push(silence(300)) + vad.finish()
    assert judged < (31 + 12 + 31) * SAMPLE_RATE
    alone = SileroVad()
    expected = sum(span.end - span.start for span in alone.push(recording()) + alone.finish())
    assert abs(sum(span.end - span.start for span in spans) - expected) < SAMPLE_RATE // 5
