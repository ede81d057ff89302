"""Media whose words are known, sent to a platform: what is lost, doubled and shifted."""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.platform import platform

SHIFTED_S = 0.1
"""A word whose start is further off counts as shifted."""
_ENDED = ("succeeded", "failed", "canceled")


def run(folders: Sequence[Path]) -> None:
    """Print a line for each file that ``words.json`` in a folder names, and its warnings.

    ``words.json`` has the tone words of each file, as [text, start, end] in seconds.
    """
    spoken: dict[Path, list[tuple[str, float, float]]] = {
        folder / name: words
        for folder in folders
        for name, words in json.loads((folder / "words.json").read_text()).items()
    }
    if not spoken:
        print("nothing to send: name a folder, as in 'media FOLDER'")
        return
    print(f"{'file':<36}{'words':>6}{'lost':>6}{'doubled':>9}{'shifted':>9}{'most s':>8}  verdict")
    with (
        tempfile.TemporaryDirectory() as data,
        platform(Path(data) / "data", "oracle") as running,
        httpx.Client(base_url=running.url, timeout=120) as client,
    ):
        for path, words in sorted(spoken.items()):
            job = _transcribe(client, path)
            transcript = job.get("transcript") or {"segments": [], "warnings": []}
            heard = [word for segment in transcript["segments"] for word in segment["words"]]
            lost, doubled, off_s = compare(words, [(word["text"], word["start"]) for word in heard])
            shifted = sum(abs(late_s) > SHIFTED_S for late_s in off_s)
            most_s = max(off_s, key=abs, default=0.0)
            verdict = job["state"] if job["error"] is None else job["error"]["code"]
            codes = [warning["code"] for warning in transcript["warnings"]]
            print(
                f"{path.name:<36}{len(words):>6}{lost:>6}{doubled:>9}{shifted:>9}{most_s:>8.3f}  "
                f"{', '.join([verdict, *codes])}",
                flush=True,
            )


def compare(
    spoken: Sequence[tuple[str, float, float]], heard: Sequence[tuple[str, float]]
) -> tuple[int, int, list[float]]:
    """Return the words lost, the words doubled or never spoken, and how late each other starts."""
    starts = {text: start for text, start, _ in spoken}
    said, got = Counter(text for text, _, _ in spoken), Counter(text for text, _ in heard)
    late_s = [start - starts[text] for text, start in heard if text in starts]
    return (said - got).total(), (got - said).total(), late_s


def _transcribe(client: httpx.Client, path: Path) -> dict[str, Any]:
    """Return the job of a file once it has ended, with its transcript."""
    with path.open("rb") as file:
        answer = client.post("/jobs", files={"file": (path.name, file)})
    if answer.is_error:
        sys.exit(f"bench: {path.name} is answered {answer.status_code}: {answer.text}")
    job: dict[str, Any] = answer.json()
    while job["state"] not in _ENDED:
        job = client.get(f"/jobs/{job['id']}", params={"wait": 30}).raise_for_status().json()
    if job["state"] == "succeeded":
        job["transcript"] = client.get(f"/jobs/{job['id']}/transcript").raise_for_status().json()
    return job
