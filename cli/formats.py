"""The formats of transcripts that the command line offers.

They are the server's (``shared.speech.formats``), repeated here so that ``--help`` loads none of
it. A test compares the two.
"""

import json

FORMATS = ("txt", "json", "srt", "vtt", "tsv")
SUBTITLES = ("srt", "vtt")
_WITHOUT_WORDS = {"txt": "", "srt": "", "vtt": "WEBVTT", "tsv": "start\tend\ttext"}
"""What is left of each format where nothing was said, without the line ends after it."""


def has_words(form: str, text: str) -> bool:
    """Whether a transcript, given in one of the formats, has any words in it."""
    if form == "json":
        return bool(json.loads(text)["text"])
    return text.rstrip("\n") != _WITHOUT_WORDS[form]
