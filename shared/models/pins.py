"""The lock file beside the catalogue: the revisions that ``longhand models pin`` has found.

For ``models.toml`` it is ``models.lock.toml``. It only fills in what the catalogue leaves
"unpinned": a revision in the catalogue itself goes before it. A pin holds for the source that it
was made for, and is passed over once the catalogue names another.
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from shared.infra.errors import ModelError

_HEAD = """\
# Written by './longhand models pin ID': the weights of models whose revision is "unpinned" in
# {catalogue}. To unpin one, delete its table.
"""


class Pin(BaseModel):
    """The weights that a model's source had when it was pinned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    revision: str


_PINS = TypeAdapter(dict[str, Pin])


def lock_path(catalogue: Path) -> Path:
    """Return the path of a catalogue's lock file: beside it, '.lock' before its suffix."""
    return catalogue.with_name(f"{catalogue.stem}.lock{catalogue.suffix}")


def read_pins(catalogue: Path) -> Mapping[str, Pin]:
    """Return the pins beside a catalogue by model id; none where there is no lock file.

    Raises:
        ModelError: the file cannot be read, or is not a lock file.
    """
    path = lock_path(catalogue)
    try:
        return _PINS.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"cannot read {path.name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise ModelError(f"{path.name} is damaged; delete it, and pin its models again") from error


def write_pin(catalogue: Path, model_id: str, pin: Pin) -> Path:
    """Add a model's pin to the lock file beside a catalogue, or replace it; return its path.

    The file is replaced whole, so that a reader finds the old one or the new one.

    Raises:
        ModelError: the lock file there is damaged.
        OSError: the folder cannot be written to.
    """
    pins = {**read_pins(catalogue), model_id: pin}
    path = lock_path(catalogue)
    # A JSON string of printable ASCII is a TOML string too.
    tables = [
        f"\n[{json.dumps(each)}]\n"
        f"source = {json.dumps(pins[each].source)}\nrevision = {json.dumps(pins[each].revision)}\n"
        for each in sorted(pins)
    ]
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_HEAD.format(catalogue=catalogue.name) + "".join(tables))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
