"""This machine: the settings, the catalogue, weights, and room."""

import difflib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cli.doctor.findings import Finding, good, warning
from shared import __version__
from shared.infra.settings import Settings

SETTINGS, MACHINE, MODELS = "settings", "machine", "models"
_OTHERS = {"DATA", "SERVER", "API_KEY"}
"""Variables of the command line itself."""
_LEAST_FILES = 4096
"""Each live session, stream and upload holds one or two."""
_LEAST_ROOM_BYTES = 1 << 30


def settings(found: Settings) -> Iterator[Finding]:
    """Look at the environment for what no setting is called."""
    known = {f"LONGHAND_{name.upper()}" for name in Settings.model_fields}
    known |= {f"LONGHAND_{name}" for name in _OTHERS}
    misnamed = [name for name in os.environ if name.startswith("LONGHAND_") and name not in known]
    for name in sorted(misnamed):
        near = difflib.get_close_matches(name, known, 1)
        yield warning(SETTINGS, f"{name} is no setting{f'; {near[0]} is' if near else ''}")
    given = sum(name in known for name in os.environ)
    yield good(SETTINGS, f"version {__version__}, {given} variables of docs/settings.md are set")
    if not found.public_url:
        yield warning(SETTINGS, "LONGHAND_PUBLIC_URL is empty: URLs in webhooks are paths alone")


def machine(_: Settings) -> Iterator[Finding]:
    """Look at files, room and Python."""
    yield good(MACHINE, f"Python {sys.version.split()[0]}, {os.cpu_count()} processors")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _LEAST_FILES:
        yield warning(
            MACHINE,
            f"a process may open {hard} files at most ({soft} now); {_LEAST_FILES} are better",
        )
    place = Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    if free < _LEAST_ROOM_BYTES:
        yield warning(MACHINE, f"{free / 1e6:.0f} MB are free in {place}")


def models(found: Settings) -> Iterator[Finding]:
    """Look at the catalogue, the settings that name its models, and the weights that are here."""
    from shared.models import weights
    from shared.models.catalogue import read_catalogue

    catalogue = read_catalogue(found)
    pinned = [model for model in catalogue.models.values() if model.is_pinned]
    here = ", ".join(model.id for model in pinned if weights.cached(model) is not None) or "none"
    yield good(MODELS, f"the catalogue is {found.catalogue.name}; weights that are here: {here}")
