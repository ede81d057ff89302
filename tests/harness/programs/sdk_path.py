"""Lets the fork server of ``forked`` import the SDK: Python 3.11 does not tell it ``sys.path``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "sdk"))
