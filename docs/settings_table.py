"""``python -m docs.settings_table``: write the table of settings into docs/settings.md."""

import ast
import inspect
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from docs.marked_pages import with_part
from shared.infra.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"
BEGIN = "<!-- settings: made by `make docs` from shared/infra/settings.py -->\n"
END = "<!-- end of settings -->\n"


def page() -> str:
    """Return docs/settings.md with its table as the code has it now.

    Raises:
        ValueError: the page does not have the two marks of the table.
    """
    return with_part(PAGE, BEGIN, table(), END)


def table() -> str:
    """Return one row for each setting: its variable, default and meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        cells = (f"`LONGHAND_{name.upper()}`", shown(field.default), meanings()[name])
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


@cache
def meanings() -> dict[str, str]:
    """Return the docstring of each setting, on one line."""
    (tree,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        setting.target.id: " ".join(ast.literal_eval(meaning.value).split())
        for setting, meaning in pairwise(tree.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(meaning, ast.Expr)
    }


def shown(default: Any) -> str:
    """Return a default as one would write it into the environment."""
    match default:
        case Path():
            return f"`{default.relative_to(ROOT)}` of this tree"
        case SecretStr():
            return shown(default.get_secret_value())
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:.15g}`"
        case "":
            return "empty"
        case _:
            return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
