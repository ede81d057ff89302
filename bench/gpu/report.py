"""The report, written anew after every row, so that a run that is ended leaves whole files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = {
    "case": "case",
    "batch": "batch",
    "rtfx": "RTFx",
    "ceiling_percent": "% of ceiling",
    "busy_percent": "% busy",
    "memory_gb": "GB",
    "note": "note",
}
"""Key of a row -> head of its column. Only the JSON has a row's other keys."""


class Report:
    """``gpu.json`` and ``gpu.md`` in a folder."""

    def __init__(self, folder: Path, **about: Any) -> None:
        """Begin with what is known of the run as a whole."""
        self._folder = folder
        self._document: dict[str, Any] = {**about, "machine": {}, "parts": {}, "rows": []}
        self.write()

    def begin(self, part: str) -> None:
        """Note that a part has begun; one that never ends was killed."""
        self._document["parts"][part] = {"state": "ended"}
        self.write()

    def end(self, part: str, state: str, seconds: float, error: str | None = None) -> None:
        """A part has ended: 'done', 'failed' or 'out of time'."""
        self._document["parts"][part] = {
            "state": state,
            "seconds": round(seconds, 1),
            "error": error,
        }
        self.write()

    def add(self, part: str, row: Mapping[str, Any]) -> None:
        """Note a row; what the part 'machine' says is of the machine."""
        if part == "machine":
            self._document["machine"].update(row)
        else:
            self._document["rows"].append({"part": part, **row})
        self.write()

    @property
    def states(self) -> dict[str, str]:
        """Part -> how it ended."""
        return {part: said["state"] for part, said in self._document["parts"].items()}

    def write(self) -> None:
        """Replace both files, each in one step."""
        self._replace("gpu.json", json.dumps(self._document, indent=1) + "\n")
        self._replace("gpu.md", self._markdown())

    def _replace(self, name: str, text: str) -> None:
        new = self._folder / f".{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self._folder / name)

    def _markdown(self) -> str:
        about = {key: self._document[key] for key in ("date", "command")}
        about |= self._document["machine"]
        said = ", ".join(f"{key} {_cell(value)}" for key, value in about.items())
        lines = [said, "", " | ".join(["| part", *COLUMNS.values()]) + " |", "| --- " * 8 + "|"]
        for row in self._document["rows"]:
            cells = [row["part"], *(_cell(row.get(key)) for key in COLUMNS)]
            lines.append("| " + " | ".join(cells) + " |")
        for part, said in self._document["parts"].items():
            if said["state"] != "done":
                note = f"{said['state']}: {said.get('error') or ''}".strip(": ")
                cells = [part, "", "", "", "", "", "", _cell(note)]
                lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return " ".join(str(value).replace("|", "/").split())
