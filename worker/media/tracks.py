"""The audio tracks of an open file: which one to transcribe, and what people call them."""

from collections.abc import Sequence

from av.audio.stream import AudioStream
from av.container import InputContainer

from shared.infra.errors import NoAudioTrack, UnreadableMedia
from shared.speech.text.languages import UnknownLanguage, language_code
from worker.media.container import DECODERS

_CODES = (
    "afr/af alb/sq ara/ar arm/hy aze/az baq/eu bel/be ben/bn bod/bo bos/bs bul/bg bur/my "
    "cat/ca ces/cs chi/zh cym/cy cze/cs dan/da deu/de dut/nl ell/el eng/en est/et eus/eu "
    "fas/fa fil/tl fin/fi fra/fr fre/fr geo/ka ger/de gle/ga glg/gl gre/el guj/gu heb/he "
    "hin/hi hrv/hr hun/hu hye/hy ice/is ind/id isl/is ita/it jpn/ja kan/kn kat/ka kaz/kk "
    "khm/km kor/ko lao/lo lat/la lav/lv lit/lt mac/mk mal/ml mao/mi mar/mr may/ms mkd/mk "
    "mon/mn mri/mi msa/ms mya/my nep/ne nld/nl nno/nn nob/no nor/no pan/pa per/fa pol/pl "
    "por/pt ron/ro rum/ro rus/ru sin/si slk/sk slo/sk slv/sl som/so spa/es sqi/sq srp/sr "
    "swa/sw swe/sv tam/ta tel/te tgl/tl tha/th tib/bo tur/tr ukr/uk urd/ur uzb/uz vie/vi "
    "wel/cy zho/zh"
)
_TWO_LETTERS = {pair[:3]: pair[4:] for pair in _CODES.split()}
"""What containers call a language, in either version of ISO 639-2, and its ISO 639-1 code."""
_TRACKS_NAMED = 8


def audio_streams(container: InputContainer, track: str | None) -> list[AudioStream]:
    """Return the audio tracks to try, in order: those that can be decoded, the default one first.

    Args:
        container: an open file.
        track: the number of the one that is asked for, from 0 among the audio tracks, or its
            language; None: any.

    Raises:
        NoAudioTrack: there is none, or not the one that is asked for.
        UnreadableMedia: the encoding of all of them is not supported, or they are damaged.
    """
    tracks = list(container.streams.audio)
    if not tracks:
        raise NoAudioTrack("The file has no audio track.")
    best = container.streams.best("audio")
    asked = sorted(
        (found for index, found in enumerate(tracks) if track is None or _is(found, index, track)),
        key=lambda found: found is not best,
    )
    if not asked:
        raise NoAudioTrack(f"The file has no audio track {track}; it has {describe(tracks)}.")
    supported = [
        found
        for found in asked
        if found.codec_context is not None and found.codec_context.codec.name in DECODERS
    ]
    if not supported:
        raise UnreadableMedia(
            f"The audio track's encoding is not supported: the file has {describe(tracks)}."
        )
    usable = [found for found in supported if found.rate and found.channels]
    if not usable:
        raise UnreadableMedia("The audio track cannot be decoded; it may be damaged.")
    return usable


def describe(tracks: Sequence[AudioStream]) -> str:
    """Name tracks for people, by number, codec and language."""
    names = []
    for index, found in enumerate(tracks[:_TRACKS_NAMED]):
        codec = "unknown encoding" if found.codec_context is None else found.codec_context.name
        parts = [codec, *([found.language] if found.language else [])]
        names.append(f"track {index} ({', '.join(parts)})")
    if len(tracks) > _TRACKS_NAMED:
        names.append(f"{len(tracks) - _TRACKS_NAMED} more")
    return ", ".join(names)


def _is(found: AudioStream, index: int, track: str) -> bool:
    if track.isdecimal():
        return index == int(track)
    return _language(found.language or "") == _language(track)


def _language(name: str) -> str:
    try:
        code = language_code(name)
    except UnknownLanguage:
        code = name.lower()
    return _TWO_LETTERS.get(code, code)
