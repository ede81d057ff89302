"""Pins are the same for every Python and in every file; our distribution has a name of its own."""

import re
import tomllib
from collections import defaultdict

import pytest

from harness.repository import tree
from harness.repository.tree import ROOT

LOCKED = ("requirements/dev.txt", "requirements/run.txt", "requirements/server.txt")
TORCH = ("requirements/transformers.txt", "deploy/torch.txt")
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;]+)", re.MULTILINE)

SPLIT = frozenset[str]()
"""Packages of which no version supports all our Pythons; the tests run on each version."""


def versions(text: str) -> dict[str, set[str]]:
    """Return package names with their pinned versions: several where markers differ."""
    found = defaultdict(set)
    for pin in PIN.finditer(text):
        found[pin["name"]].add(pin["version"])
    return found


@pytest.mark.parametrize("file", [*LOCKED, *TORCH])
def test_a_package_is_pinned_to_one_version_for_every_python(file: str) -> None:
    pinned = versions((ROOT / file).read_text())
    assert len(pinned) > 20
    assert {name for name, several in pinned.items() if len(several) > 1} <= SPLIT


def test_two_versions_of_a_package_are_noticed() -> None:
    text = (
        "av==18.1.0 ; python_full_version < '3.12' \\\nav==19.0.2 ; python_full_version >= '3.12'"
    )
    assert versions(text) == {"av": {"18.1.0", "19.0.2"}}


@pytest.mark.parametrize("file", [*LOCKED[1:], *TORCH])
def test_the_sets_agree_with_the_one_that_is_tested(file: str) -> None:
    pinned = versions((ROOT / file).read_text())
    tested = versions((ROOT / LOCKED[0]).read_text())
    tested |= versions((ROOT / "requirements/torch.txt").read_text())
    shared = pinned.keys() & tested.keys()
    assert {name: pinned[name] for name in shared} == {name: tested[name] for name in shared}
    if file in LOCKED:
        assert shared == pinned.keys()


def test_torch_is_the_only_thing_that_the_transformers_engines_find_elsewhere() -> None:
    ours, whole = (versions((ROOT / file).read_text()).keys() for file in TORCH)
    assert ours < whole
    assert all(re.match(r"torch$|triton$|cuda-|nvidia-", name) for name in whole - ours)


def test_the_distribution_is_called_what_nobody_else_has_and_the_command_longhand() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "longhand-transcription"
    assert project["scripts"] == {"longhand": "cli.main:main"}


def test_no_file_tells_to_install_the_package_that_somebody_else_calls_longhand() -> None:
    wrong = re.compile(r"longhand" + r"\[|pip3? install (-\S+ )*longhand\b(?!-)")
    texts = {name: (ROOT / name).read_bytes().decode(errors="ignore") for name in tree.files()}
    assert "README.md" in texts
    assert [name for name, text in texts.items() if wrong.search(text)] == []
    assert wrong.search("pip install " + "longhand")
