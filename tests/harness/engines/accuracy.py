"""How well the samples are understood."""

import re

import jiwer

from harness.repository.tree import ROOT

SAMPLES = ROOT / "samples"

MAX_WER = 0.10
"""Measured: hello.wav 0.07 (one word), weather.flac 0.06 (two), meeting.mp3 0.02 (three)."""


def word_error_rate(sample: str, heard: str) -> float:
    """Return it for what was heard in a file of ``samples/``."""
    reference = (SAMPLES / sample).with_suffix(".txt").read_text()
    return float(jiwer.wer(plain_words(reference), plain_words(heard)))


def plain_words(text: str) -> str:
    """Return the text in lower case, without punctuation."""
    return re.sub(r"[^\w ]", "", " ".join(text.lower().split()))
