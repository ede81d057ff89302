"""Sessions of live audio for tests: talkers made of tone words, and a model that reads them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from shared.speech.audio.companding import Law, expand
from shared.speech.audio.rate import SAMPLE_RATE
from shared.speech.audio.samples import Pcm
from shared.speech.chunks.hypothesis import Hypothesis, WordHypothesis
from shared.speech.live.events import Ask, Effect, Event, Final
from shared.speech.live.options import LiveOptions
from shared.speech.live.requests import LiveAnswer, LiveRequest
from shared.speech.live.session import LiveSession
from worker.engines.oracle import OracleEngine, encode_word, word_text
from worker.engines.protocol import DecodeOptions, Prepared

OPTIONS = LiveOptions(model="oracle", vad="energy", threshold=0.5)


def samples(duration_s: float) -> int:
    return round(duration_s * SAMPLE_RATE)


def silence(duration_s: float) -> bytes:
    return bytes(2 * samples(duration_s))


def say(*numbers: int, gap_s: float = 0.06) -> bytes:
    """Return tone words with short gaps between them, as s16le."""
    gap = silence(gap_s)
    return gap.join(_pcm(encode_word(number)) for number in numbers)


def companded(pcm: bytes, law: Law) -> bytes:
    """Return s16le at 16 kHz as a telephone sends it: in 8 bits, at 8 kHz."""
    known = np.frombuffer(expand(bytes(range(256)), law), "<i2").astype(np.int32)
    order = np.argsort(known)
    wanted = np.frombuffer(pcm, "<i2").astype(np.int32).reshape(-1, 2).mean(axis=1)
    places = np.clip(np.searchsorted(known[order], wanted), 0, 255)
    return bytes(order[places].astype(np.uint8))


def texts(*numbers: int) -> str:
    return " ".join(map(word_text, numbers))


def _pcm(audio: "np.typing.NDArray[np.float32]") -> bytes:
    return np.round(audio * 32767).astype("<i2").tobytes()


def read_tones(request: LiveRequest) -> Hypothesis:
    """Return the words of a request, as the oracle engine reads them."""
    engine = OracleEngine()
    audio: Pcm = np.frombuffer(request.pcm, "<i2").astype(np.int16)
    prepared = engine.prepare(
        audio.astype(np.float32) / np.float32(32768), DecodeOptions(language=request.language)
    )
    assert isinstance(prepared, Prepared)
    (raw,) = engine.infer([prepared])
    assert isinstance(raw, Hypothesis)
    return engine.finish(raw)


def answer_to(request: LiveRequest) -> LiveAnswer:
    """Return what a worker would, with made-up times."""
    return LiveAnswer(request.id, read_tones(request), queue_ms=1.0, inference_ms=2.0, batch_size=1)


def words(text: str, start: int = 0, step: int = 4_000) -> Hypothesis:
    """Return a hypothesis with the words of a text, one after another."""
    return Hypothesis(
        tuple(
            WordHypothesis(f" {word}", start + i * step, start + (i + 1) * step, 0.9)
            for i, word in enumerate(text.split())
        ),
        "en",
    )


@dataclass
class Talk:
    """A session, and a model that answers ``delay`` samples after it was asked."""

    options: LiveOptions = OPTIONS
    delay: int = 0
    events: list[Event] = field(default_factory=list)
    requests: list[LiveRequest] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        ids = count()
        self.session = LiveSession(self.options, make_id=lambda: f"id{next(ids)}")
        self._due: list[tuple[int, LiveRequest]] = []

    def push(self, pcm: bytes, ends: Sequence[int] = ()) -> None:
        """Send audio, cut at these bytes."""
        at = 0
        for end in (*sorted(ends), len(pcm)):
            self.take(self.session.push(pcm[at:end]))
            at = end
            self.catch_up()

    def push_frames(self, pcm: bytes, frame_bytes: int = 640) -> None:
        self.push(pcm, range(frame_bytes, len(pcm), frame_bytes))

    def take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                self.requests.append(effect.request)
                self._due.append((self.session.n_samples + self.delay, effect.request))
            elif type(effect).__name__ == "Drop":
                self.dropped.append(effect.segment)
            else:
                self.events.append(effect)

    def catch_up(self, now: int | None = None) -> None:
        """Answer what is due."""
        now = self.session.n_samples if now is None else now
        while self._due and self._due[0][0] <= now:
            _, request = self._due.pop(0)
            self.take(self.session.answer(self.answer(request)))

    def answer(self, request: LiveRequest) -> LiveAnswer:
        return answer_to(request)

    def finish(self) -> None:
        """End the session and answer everything."""
        self.take(self.session.end())
        while self._due:
            self.catch_up(self._due[0][0])

    @property
    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def said(self) -> str:
        return " ".join(final.text for final in self.finals if final.text)
