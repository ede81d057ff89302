"""Our packages have generic names; nothing else may answer to them."""

import importlib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("api", "cli", "shared", "worker")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_imported_from_this_tree(name: str) -> None:
    assert importlib.import_module(name).__file__ == str(ROOT / name / "__init__.py")


@pytest.mark.parametrize("name", PACKAGES)
def test_no_installed_distribution_owns_a_package_of_the_same_name(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"longhand-transcription"}
