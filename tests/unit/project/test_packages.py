"""Our packages have generic names, which nothing else may own; and what tests preload exists."""

import importlib
import importlib.util
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from harness.programs.forked import PRELOADED

ROOT = Path(__file__).parents[3]
PACKAGES = ("api", "cli", "shared", "worker")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_imported_from_this_tree(name: str) -> None:
    assert importlib.import_module(name).__file__ == str(ROOT / name / "__init__.py")


@pytest.mark.parametrize("name", PACKAGES)
def test_no_installed_distribution_owns_a_package_of_the_same_name(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"longhand-transcription"}


def test_the_sdk_is_imported_from_this_tree() -> None:
    found = importlib.import_module("longhand_sdk").__file__
    assert found == str(ROOT / "sdk" / "longhand_sdk" / "__init__.py")
    assert set(packages_distributions().get("longhand_sdk", [])) <= {"longhand-transcription"}


@pytest.mark.parametrize("name", PRELOADED)
def test_a_module_that_forked_programs_share_exists(name: str) -> None:
    """Those that do not are left out in silence, and each test takes a second longer."""
    assert importlib.util.find_spec(name) is not None
