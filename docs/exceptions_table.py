"""``python -m docs.exceptions_table``: write the table of the SDK's exceptions into docs/sdk.md."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from longhand_sdk.errors import ANSWERS, FAILURES, APIError, JobFailed, LonghandError

from docs.marked_pages import with_part

PAGE = Path(__file__).with_name("sdk.md")
BEGIN = "<!-- exceptions: made by `make docs` from sdk/longhand_sdk/errors.py -->\n"
END = "<!-- end of exceptions -->\n"


def page() -> str:
    """Return docs/sdk.md with its tables as the code has them now.

    Raises:
        ValueError: the page does not have the two marks of the tables.
    """
    refused = _table("the server's code", ANSWERS, APIError)
    failed = _table("the job's error code", FAILURES, JobFailed)
    return with_part(PAGE, BEGIN, f"{refused}\n{failed}", END)


def _table(code: str, classes: Mapping[str, type[LonghandError]], base: type[LonghandError]) -> str:
    lines = [f"| {code} | exception | is a | |", "| --- | --- | --- | --- |"]
    for name, kind in sorted(classes.items()):
        parents = [each.__name__ for each in kind.__mro__[1:] if issubclass(each, base)]
        meaning = (inspect.getdoc(kind) or "").splitlines()[0]
        lines.append(f"| `{name}` | `{kind.__name__}` | `{parents[0]}` | {meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
