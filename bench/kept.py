"""How many words of a recording the voice activity detectors hand to the model, by level."""

from collections.abc import Callable, Iterable, Sequence

from bench.pipeline import as_float
from bench.variants import Recording, at_level, with_noise
from shared.speech.audio.levels import find_sound
from shared.speech.audio.samples import Pcm
from shared.speech.audio.spans import Span
from shared.speech.audio.voice_activity import make_vad
from shared.speech.chunks.hypothesis import WordHypothesis
from shared.speech.chunks.word_bounds import bound_words
from shared.speech.names import VAD_NAMES

CHANGES: dict[str, Callable[[Pcm], Pcm]] = {
    "as they are": lambda pcm: pcm,
    "20 dB quieter": lambda pcm: at_level(pcm, -20.0),
    "40 dB quieter": lambda pcm: at_level(pcm, -40.0),
    "60 dB quieter": lambda pcm: at_level(pcm, -60.0),
    "66 dB quieter": lambda pcm: at_level(pcm, -66.0),
    "white noise 10 dB below": lambda pcm: with_noise(pcm, 10.0),
}


def run(timed_words: Callable[[Pcm], Iterable[Span]], recordings: Sequence[Recording]) -> None:
    """Print the share of words whose middle is in a span of speech.

    ``timed_words`` says where a recording's words are. It hears the recording as it is.
    """
    middles = [(each.pcm, _middles(each.pcm, timed_words(each.pcm))) for each in recordings]
    n_words = sum(len(of_one) for _, of_one in middles)
    names = [name for name in VAD_NAMES if name != "off"]
    print(f"-- words kept, of {n_words}")
    print(f"{'kept %':<28}{''.join(f'{name:>12}' for name in names)}")
    for change, changed in CHANGES.items():
        shares = []
        for name in names:
            n_kept = 0
            for pcm, of_one in middles:
                vad = make_vad(name)
                spans = [*vad.push(changed(pcm)), *vad.finish()]
                n_kept += sum(any(s.start <= at < s.end for s in spans) for at in of_one)
            shares.append(n_kept / n_words)
        print(f"{change:<28}{''.join(f'{100 * share:>12.2f}' for share in shares)}", flush=True)


def _middles(pcm: Pcm, words: Iterable[Span]) -> list[int]:
    """Return the words' middles; words that stretch over a pause are cut to their sound."""
    timed = [WordHypothesis("", word.start, word.end) for word in words]
    bounded = bound_words(timed, find_sound(as_float(pcm), ()))
    return [(word.start + word.end) // 2 for word in bounded]
