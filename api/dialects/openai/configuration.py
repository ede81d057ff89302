"""What a realtime session is configured to do, in OpenAI's names of today and of the beta."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from api.dialects.live import MAX_PROMPT_CHARS
from api.dialects.openai.tables import REALTIME
from api.live.sessions import LEAST_SILENCE_MS, Wish
from api.validation import describe
from shared.infra.errors import InvalidParameter, UnsupportedParameter
from shared.models.options import JobOptions

RATE = 24_000
"""Of the PCM that clients send."""

_INPUT = "audio.input."
_BETA_NAMES = {
    "input_audio_format": f"{_INPUT}format.type",
    "input_audio_transcription": f"{_INPUT}transcription",
    "turn_detection": f"{_INPUT}turn_detection",
    "input_audio_noise_reduction": f"{_INPUT}noise_reduction",
}
"""Names of the beta, and where the same is today."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a client has asked for so far."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    hotwords: str | None = None
    vad: bool = True
    threshold: float | None = None
    silence_ms: float | None = None
    logprobs: bool = False

    def is_like(self, other: "Configuration") -> bool:
        """Whether they differ in nothing but the language."""
        return replace(self, language=None) == replace(other, language=None)

    def wish(self, find_model: Callable[[str | None], str], language: str | None) -> Wish:
        """Return what is asked of a session; ``language``: if the client names none.

        Raises:
            InvalidParameter: a value is of no use.
            UnknownModel: there is no such model.
        """
        try:
            job = JobOptions(
                model=find_model(self.model),
                language=self.language or language,
                prompt=self.prompt and self.prompt[-MAX_PROMPT_CHARS:],
                hotwords=self.hotwords,
            )
        except ValidationError as error:
            (wrong, *_) = describe(error)
            field = "keywords" if wrong["field"] == "hotwords" else wrong["field"]
            name = f"{_INPUT}transcription.{field}"
            raise InvalidParameter(f"{name}: {wrong['message']}", name) from error
        return Wish(
            job,
            vad=self.vad,
            threshold=self.threshold,
            sample_rate=RATE,
            min_silence_ms=self.silence_ms,
        )

    def shown(self, session_id: str, *, beta: bool) -> dict[str, Any]:
        """Return the session as events tell it."""
        transcription = {
            "model": self.model,
            "language": self.language,
            "prompt": self.prompt or "",
        }
        detection = None
        if self.vad:
            detection = {
                "type": "server_vad",
                "threshold": self.threshold,
                "prefix_padding_ms": 300,
                "silence_duration_ms": self.silence_ms,
            }
        include = ["item.input_audio_transcription.logprobs"] if self.logprobs else None
        about = {"id": session_id, "object": "realtime.transcription_session", "include": include}
        if beta:
            return {
                **about,
                "input_audio_format": "pcm16",
                "input_audio_transcription": transcription,
                "turn_detection": detection,
                "input_audio_noise_reduction": None,
            }
        audio = {
            "format": {"type": "audio/pcm", "rate": RATE},
            "transcription": transcription,
            "turn_detection": detection,
            "noise_reduction": None,
        }
        return {**about, "type": "transcription", "audio": {"input": audio}}


def read_configuration(session: Mapping[str, Any], before: Configuration) -> Configuration:
    """Return what a client asks for with an update; what it does not name stays as it was.

    Raises:
        InvalidParameter: a name is unknown, or a value is of no use.
        UnsupportedParameter: something is refused.
    """
    given = dict(_flat(session))
    counts = REALTIME.check({name: value for name, value in given.items() if value is not None})
    known: Sequence[tuple[str, Sequence[object]]] = (
        ("type", ("transcription",)),
        (f"{_INPUT}format.type", ("audio/pcm", "pcm16")),
        (f"{_INPUT}format.rate", (RATE,)),
        (f"{_INPUT}turn_detection.type", ("server_vad", "semantic_vad")),
    )
    for name, wanted in known:
        if name in counts and counts[name] not in wanted:
            raise UnsupportedParameter(f"{name}: only {wanted[0]!r} is taken", name)
    changes: dict[str, Any] = {}
    for name, ours in (("model", "model"), ("language", "language"), ("prompt", "prompt")):
        if f"{_INPUT}transcription.{name}" in given:
            changes[ours] = counts.get(f"{_INPUT}transcription.{name}")
    languages = f"{_INPUT}transcription.languages"
    if languages in counts:
        if not isinstance(counts[languages], list) or len(counts[languages]) > 1:
            raise UnsupportedParameter(
                f"{languages}: name one, or none to have it detected", languages
            )
        (changes["language"],) = counts[languages]
    keywords = f"{_INPUT}transcription.keywords"
    if keywords in given:
        words = counts.get(keywords, [])
        if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
            raise InvalidParameter("keywords is no list of texts", keywords)
        changes["hotwords"] = ", ".join(words) or None
    detection = f"{_INPUT}turn_detection"
    if given.get(detection, "") is None:
        changes["vad"] = False
    elif any(name.startswith(f"{detection}.") for name in given):
        changes |= {
            "vad": True,
            "threshold": _number(counts, f"{detection}.threshold", 0, 1),
            "silence_ms": _number(
                counts, f"{detection}.silence_duration_ms", LEAST_SILENCE_MS, 60_000
            ),
        }
    if "include" in given:
        changes["logprobs"] = counts.get("include") == ["item.input_audio_transcription.logprobs"]
        if counts.get("include") and not changes["logprobs"]:
            raise InvalidParameter(f"include: unknown {counts['include']!r}", "include")
    for name in ("model", "language", "prompt"):
        if not isinstance(changes.get(name), str | None):
            raise InvalidParameter(f"{name} is no text", f"{_INPUT}transcription.{name}")
    return replace(before, **changes)


def _number(counts: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = counts.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidParameter(f"{name}: a number from {least:g} to {most:g} is expected", name)
    return float(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the members of an object that are none themselves, under today's names."""
    for key, inner in value.items():
        name = prefix + key
        for beta, today in _BETA_NAMES.items():
            if not prefix and key == beta:
                name = today
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{name}.")
        else:
            yield name, inner
