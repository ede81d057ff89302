"""The names that clients choose from: voice activity detectors and formats of transcripts.

Neither numpy nor pydantic is imported here, so that ``longhand --help`` stays fast.
"""

from typing import Literal, get_args

VadName = Literal["silero", "energy", "off"]
VAD_NAMES: tuple[VadName, ...] = get_args(VadName)

SUBTITLES = ("srt", "vtt")
"""Formats that are made of cues."""
FORMATS = ("txt", "json", *SUBTITLES, "tsv", "docx")
