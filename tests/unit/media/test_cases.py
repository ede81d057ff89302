"""Media as people have it: late sound, several tracks, damage, headers that lie, other levels."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from harness.media.recipes import FRAGMENTED, KINDS, Channels, Kind, at_rate, mux, wav
from shared.infra.errors import NoAudioTrack, UnreadableMedia
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.transcript.stitching import CLIPPED_SHARE
from worker.engines.oracle import OracleEngine, encode, word_text
from worker.engines.protocol import DecodeOptions
from worker.media.clipping import ClippingMeter
from worker.media.container import DECODERS, FORMATS
from worker.media.decode import decode
from worker.media.findings import Findings

WORDS = range(500, 520)
GAP_S = 0.3
PERIOD_S = GAP_S + 0.24


def hear(data: bytes, **options: str | bool) -> tuple[dict[str, float], list[str]]:
    """Return the start of each word in seconds, and the codes of the warnings."""
    findings = Findings()
    blocks = decode(io.BytesIO(data), 3600, findings=findings, **options)  # type: ignore[arg-type]
    samples = np.concatenate(list(blocks), axis=1)[0].astype(np.float32) / 32768
    words = OracleEngine().transcribe([samples], DecodeOptions())[0].words
    assert len({word.text for word in words}) == len(words), "none is doubled"
    starts = {word.text: findings.times.time_of(word.start) / SAMPLE_RATE for word in words}
    return starts, [warning.code for warning in findings.warnings]


def sound(rate: int = SAMPLE_RATE, first: int = WORDS.start) -> Channels:
    return at_rate(encode(range(first, first + len(WORDS)), GAP_S)[0], rate)[np.newaxis]


def due(late_s: float = 0.0) -> dict[str, float]:
    return {word_text(n): GAP_S + i * PERIOD_S + late_s for i, n in enumerate(WORDS)}


def test_every_name_in_the_lists_is_one_of_ffmpegs() -> None:
    assert {name for name in FORMATS if name not in av.formats_available} == set()
    assert {name for name in DECODERS if name not in av.codecs_available} == set()


FORMATS_WITH_VIDEO = [
    *[("matroska", codec, "aac") for codec in ("libx264", "libx265", "libvpx-vp9", "mpeg4")],
    *[("mpegts", codec, "aac") for codec in ("libx264", "mpeg2video")],
    *[("mp4", codec, "aac") for codec in ("libx264", "mpeg4")],
    *[("mov", "libx264", "aac"), ("webm", "libvpx", "libopus"), ("flv", "libx264", "aac")],
    *[("asf", "mpeg4", "libmp3lame"), ("vob", "mpeg2video", "mp2")],
]


@pytest.mark.parametrize(("muxer", "video", "audio"), FORMATS_WITH_VIDEO)
def test_sound_that_starts_late_is_late_in_every_container(
    muxer: str, video: str, audio: str
) -> None:
    if video not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {video}")
    rate = 44_100 if audio != "libopus" else 48_000
    data = with_pictures(muxer, video, audio, sound(rate), rate, late_s=2.0)

    heard, _ = hear(data)

    assert heard.keys() == due().keys()
    for text, start_s in due(2.0).items():
        assert heard[text] == pytest.approx(start_s, abs=0.1)


def with_pictures(
    muxer: str,
    video: str,
    audio: str,
    samples: Channels,
    rate: int,
    late_s: float,
    muxer_options: dict[str, str] | None = None,
    silent_s: int = 0,
) -> bytes:
    """Pictures from the start, sound that starts later and ends some seconds before them."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer, options=muxer_options or {}) as container:
        pictures = container.add_stream(video, rate=25)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        track = container.add_stream(audio, rate=rate)
        track.layout = "mono"
        n_seconds = int(late_s + samples.shape[1] / rate) + silent_s
        for second in range(n_seconds + 1):
            for index in range(25 * second, 25 * (second + 1)):
                shown = np.full((64, 64, 3), index % 250, np.uint8)
                picture = av.VideoFrame.from_ndarray(shown)
                picture.pts, picture.time_base = index, Fraction(1, 25)
                container.mux(pictures.encode(picture))
            start = max(0, int((second - late_s) * rate))
            part = samples[:, start : max(0, int((second + 1 - late_s) * rate))]
            if part.size:
                frame = av.AudioFrame.from_ndarray(part.copy(), format="fltp", layout="mono")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start + int(late_s * rate)
                container.mux(track.encode(frame))
        container.mux(pictures.encode(None))
        container.mux(track.encode(None))
    return buffer.getvalue()


def tracks(muxer: str, *sounds: Channels, languages: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=muxer) as container:
        streams = []
        for index in range(len(sounds)):
            stream = container.add_stream("aac", rate=SAMPLE_RATE)
            stream.layout = "mono"
            if languages:
                stream.metadata["language"] = languages[index]
            streams.append(stream)
        for stream, samples in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(samples.copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return buffer.getvalue()


def test_a_track_that_is_silent_throughout_gives_way_to_the_next() -> None:
    heard, warnings = hear(tracks("matroska", np.zeros_like(sound()), sound()))

    assert heard.keys() == due().keys()
    assert warnings == ["several_tracks"]


def test_a_silent_beginning_is_kept() -> None:
    late = np.concatenate([np.zeros((1, 5 * SAMPLE_RATE), np.float32), sound()], axis=1)

    heard, _ = hear(tracks("matroska", late, sound(first=900)))

    assert heard == pytest.approx(due(5.0), abs=0.07)


@pytest.mark.parametrize(("track", "first"), [("0", 500), ("1", 900), ("de", 900), ("eng", 500)])
def test_a_track_is_chosen_by_number_or_language(track: str, first: int) -> None:
    data = tracks("matroska", sound(), sound(first=900), languages=("eng", "ger"))

    heard, _ = hear(data, track=track)

    assert min(heard) == word_text(first)


def test_a_track_that_is_not_there_is_told_with_those_that_are() -> None:
    data = tracks("matroska", sound(), sound(), languages=("eng", "ger"))

    with pytest.raises(NoAudioTrack, match=r"no audio track fr; .* track 1 \(aac, ger\)"):
        hear(data, track="fr")


def test_fragments_after_a_damaged_one_are_heard_at_their_time() -> None:
    kind = Kind("mp4", "aac", SAMPLE_RATE, muxer_options=FRAGMENTED)
    data = bytearray(mux(kind, sound()))
    n_fragments = data.count(b"moof")
    assert n_fragments > 2
    at = -1
    for _ in range(n_fragments // 2 + 1):
        at = data.index(b"moof", at + 1)
    data[at - 4 : at + 4] = bytes(8)

    heard, warnings = hear(bytes(data))

    assert warnings == ["damaged"]
    assert max(heard) == word_text(WORDS[-1])
    assert len(heard) > len(WORDS) * 0.5
    for text, start_s in heard.items():
        assert start_s == pytest.approx(due(0.064)[text], abs=0.05)


def test_pictures_that_go_on_after_the_sound_are_no_damage() -> None:
    data = with_pictures("mp4", "mpeg4", "aac", sound(), SAMPLE_RATE, 0.0, FRAGMENTED, silent_s=8)

    heard, warnings = hear(data)

    assert (len(heard), warnings) == (len(WORDS), [])


def test_segments_that_overlap_are_heard_once() -> None:
    data = mux(KINDS["mpegts"], sound())
    middle, overlap = len(data) // 376 * 188, len(data) // 1880 * 188
    joined = data[:middle] + data[middle - overlap :]

    heard, _ = hear(joined)

    assert heard.keys() == due().keys()
    for text, start_s in due(0.064).items():
        assert heard[text] == pytest.approx(start_s, abs=0.08)


@pytest.mark.parametrize("where", ["start", "end"])
def test_the_same_damage_has_the_same_verdict_wherever_it_is(where: str) -> None:
    data = bytearray(mux(KINDS["m4a"], np.repeat(sound(44_100), 2, axis=0)))
    with av.open(io.BytesIO(bytes(data))) as container:
        packets = [(p.pos, p.size) for p in container.demux(audio=0) if p.size and p.pos]
    for position, size in packets[3:15] if where == "start" else packets[-15:-3]:
        data[position : position + size] = b"\xff" * size

    heard, warnings = hear(bytes(data))

    assert warnings == ["damaged"]
    assert len(heard) >= len(WORDS) - 2
    with pytest.raises(UnreadableMedia):
        hear(bytes(data), strict=True)


def test_sound_after_the_length_that_a_wav_declares_is_heard() -> None:
    pcm = (sound()[0] * 32767).astype(np.int16)

    heard, warnings = hear(wav(pcm, size=len(pcm)))

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == ["wrong_length"]


def test_ac3_in_a_wav_that_declares_pcm_is_heard() -> None:
    ac3 = mux(Kind("ac3", "ac3", 48_000), sound(48_000))
    ac3 += bytes(len(ac3) % 2)

    heard, _ = hear(wav(np.frombuffer(ac3, "<i2"), rate=48_000, channels=2))

    assert heard.keys() == due().keys()


def test_an_inverted_channel_does_not_silence_the_other() -> None:
    one = (sound()[0] * 32767).astype(np.int16)

    heard, warnings = hear(wav(np.stack([one, -one], axis=1), channels=2))

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == ["channels_cancel"]


@pytest.mark.parametrize("kind", [Kind("ipod", "aac", 44_100, 2), Kind("flac", "flac", 96_000, 2)])
def test_a_channel_that_is_inverted_for_a_while_is_left_out_there_only(kind: Kind) -> None:
    one = sound(kind.rate)[0]
    sign = np.where(np.arange(len(one)) < len(one) // 2, 1, -1)

    heard, warnings = hear(mux(kind, np.stack([one, one * sign]).astype(np.float32)))

    assert heard == pytest.approx(due(), abs=0.01)
    assert warnings == ["channels_cancel"]


@pytest.mark.parametrize("encoder", ["pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44_100])
def test_a_mix_is_the_mean_of_two_channels_in_every_format(encoder: str, rate: int) -> None:
    one = np.full(rate, 0.5, np.float32)

    data = mux(Kind("wav", encoder, rate, 2), np.stack([one, np.zeros_like(one)]))
    pcm = np.concatenate(list(decode(io.BytesIO(data), 60)), axis=1)[0]

    assert pcm[4000] == pytest.approx(0.25 * 32768, abs=2)


def test_sound_above_full_scale_is_scaled_down_not_clipped() -> None:
    loud = 10 * sound()[0]
    buffer = mux(Kind("wav", "pcm_f32le", SAMPLE_RATE), loud[np.newaxis])

    pcm = np.concatenate(list(decode(io.BytesIO(buffer), 60)), axis=1)[0]

    meter = ClippingMeter()
    meter.push(pcm)
    assert meter.share < CLIPPED_SHARE
    assert np.corrcoef(pcm, loud[: len(pcm)])[0, 1] > 0.99
