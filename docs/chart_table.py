"""``python -m docs.chart_table``: write the table of the chart's values into its README.md."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from docs.marked_pages import with_part

FOLDER = Path(__file__).parents[1] / "deploy" / "helm" / "longhand"
PAGE = FOLDER / "README.md"
BEGIN = "<!-- values: made by `make docs` from values.schema.json and values.yaml -->\n"
END = "<!-- end of values -->\n"
_NOTHING = object()

Json = Mapping[str, Any]


def page() -> str:
    """Return the chart's README.md with its table as the schema has it now.

    Raises:
        ValueError: the page does not have the two marks of the table.
    """
    return with_part(PAGE, BEGIN, table(), END)


def table() -> str:
    """Return one row for each value: its name, default and meaning."""
    schema = json.loads((FOLDER / "values.schema.json").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((FOLDER / "values.yaml").read_text(encoding="utf-8"))
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for name, meaning, default in _values(schema, schema["definitions"], defaults):
        shown = "" if default is _NOTHING else f"`{json.dumps(default)}`"
        rows.append(f"| `{name}` | {shown} | {meaning} |")
    return "\n".join(rows) + "\n"


def _values(
    schema: Json, definitions: Json, defaults: Any, path: str = ""
) -> Iterator[tuple[str, str, Any]]:
    """Yield the name, the meaning and the default of each value that can be set."""
    for name, given in schema.get("properties", {}).items():
        if name == "global":
            continue
        reference = given.get("$ref", "").removeprefix("#/definitions/")
        full = {**definitions.get(reference, {}), **given}
        default = defaults.get(name, _NOTHING) if isinstance(defaults, dict) else _NOTHING
        divided = reference != "resources" and "properties" in full
        if "description" in given:
            yield path + name, given["description"], _NOTHING if divided else default
        if divided:
            yield from _values(full, definitions, default, f"{path}{name}.")
        elif "properties" in full.get("items", {}):
            yield from _values(full["items"], definitions, _NOTHING, f"{path}{name}[].")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
