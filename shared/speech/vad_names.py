"""The names of the voice activity detectors.

Apart from the detectors, so that the command line and the API need not import numpy for them.
"""

from typing import Literal, get_args

VadName = Literal["silero", "energy", "off"]
VAD_NAMES: tuple[VadName, ...] = get_args(VadName)
