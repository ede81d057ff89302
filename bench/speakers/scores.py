"""Error rates of diarizations, in an environment of its own: JSON on stdin, JSON on stdout."""

import json
import re
import sys
from typing import Any

import meeteval
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate


def main() -> None:
    """Score each of the found diarizations, and the words where there are any."""
    asked = json.load(sys.stdin)
    reference = _annotation(asked["truth"])
    scores = {name: _error_rate(reference, turns) for name, turns in asked["found"].items()}
    if "words" in asked:
        scores |= _word_error_rates(asked["stm"], asked["words"])
    json.dump(scores, sys.stdout)


def _annotation(turns: list[tuple[float, float, str]]) -> Annotation:
    annotation = Annotation()
    for number, (start_s, end_s, who) in enumerate(turns):
        annotation[Segment(start_s, end_s), number] = who
    return annotation


def _error_rate(reference: Annotation, turns: list[tuple[float, float, str]]) -> dict[str, float]:
    """Return the rate and its parts: no collar, overlap scored, from 0 to the last turn's end."""
    found = _annotation(turns)
    extent = reference.get_timeline().extent() | found.get_timeline().extent()
    scored = Timeline([Segment(0, extent.end)])
    parts = DiarizationErrorRate(collar=0.0, skip_overlap=False)(
        reference, found, uem=scored, detailed=True
    )
    total = parts["total"]
    return {
        "der": parts["diarization error rate"],
        "missed": parts["missed detection"] / total,
        "false": parts["false alarm"] / total,
        "confused": parts["confusion"] / total,
    }


def _word_error_rates(stm: str, words: list[tuple[str, str]]) -> dict[str, float]:
    lines = [line.split(maxsplit=5) for line in stm.splitlines() if line]
    truth: dict[str, str] = {}
    for _, _, who, _, _, text in lines:
        truth[who] = f"{truth.get(who, '')} {_plain(text)}"
    found: dict[str, str] = {}
    for word, who in words:
        found[who] = f"{found.get(who, '')} {_plain(word)}"
    spoken = " ".join(_plain(line[5]) for line in lines)
    heard = " ".join(_plain(word) for word, _ in words)
    whole: Any = meeteval.wer.wer.siso_word_error_rate(spoken, heard)
    each: Any = meeteval.wer.wer.cp_word_error_rate(truth, found)
    return {"wer": whole.error_rate, "cpwer": each.error_rate}


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w' ]+", " ", text.lower()).split())


if __name__ == "__main__":
    main()
