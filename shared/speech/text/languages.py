"""Languages by the names that people type: ISO 639 codes, locales and English names."""

import difflib
import re

# fmt: off
NAMES = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "as": "assamese", "az": "azerbaijani",
    "ba": "bashkir", "be": "belarusian", "bg": "bulgarian", "bn": "bengali", "bo": "tibetan",
    "br": "breton", "bs": "bosnian", "ca": "catalan", "cs": "czech", "cy": "welsh", "da": "danish",
    "de": "german", "el": "greek", "en": "english", "es": "spanish", "et": "estonian",
    "eu": "basque", "fa": "persian", "fi": "finnish", "fo": "faroese", "fr": "french",
    "gl": "galician", "gu": "gujarati", "ha": "hausa", "haw": "hawaiian", "he": "hebrew",
    "hi": "hindi", "hr": "croatian", "ht": "haitian creole", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "is": "icelandic", "it": "italian", "ja": "japanese", "jv": "javanese",
    "ka": "georgian", "kk": "kazakh", "km": "khmer", "kn": "kannada", "ko": "korean", "la": "latin",
    "lb": "luxembourgish", "ln": "lingala", "lo": "lao", "lt": "lithuanian", "lv": "latvian",
    "mg": "malagasy", "mi": "maori", "mk": "macedonian", "ml": "malayalam", "mn": "mongolian",
    "mr": "marathi", "ms": "malay", "mt": "maltese", "my": "burmese", "ne": "nepali", "nl": "dutch",
    "nn": "norwegian nynorsk", "no": "norwegian", "oc": "occitan", "pa": "punjabi", "pl": "polish",
    "ps": "pashto", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sa": "sanskrit",
    "sd": "sindhi", "si": "sinhala", "sk": "slovak", "sl": "slovenian", "sn": "shona",
    "so": "somali", "sq": "albanian", "sr": "serbian", "su": "sundanese", "sv": "swedish",
    "sw": "swahili", "ta": "tamil", "te": "telugu", "tg": "tajik", "th": "thai", "tk": "turkmen",
    "tl": "tagalog", "tr": "turkish", "tt": "tatar", "uk": "ukrainian", "ur": "urdu", "uz": "uzbek",
    "vi": "vietnamese", "yi": "yiddish", "yo": "yoruba", "yue": "cantonese", "zh": "chinese",
}
"""ISO 639 code -> English name, of every language in ``models.toml``."""
_OTHER_NAMES = {
    "bangla": "bn", "castilian": "es", "farsi": "fa", "filipino": "tl", "flemish": "nl",
    "haitian": "ht", "letzeburgesch": "lb", "mandarin": "zh", "moldavian": "ro", "moldovan": "ro",
    "myanmar": "my", "nynorsk": "nn", "panjabi": "pa", "pushto": "ps", "sinhalese": "si",
    "valencian": "ca",
}
# fmt: on
_CODES = {name: code for code, name in NAMES.items()} | _OTHER_NAMES
_FORMER_CODES = {"in": "id", "iw": "he", "ji": "yi", "jw": "jv"}
"""Withdrawn ISO 639 codes that are still in use."""
_TAG = re.compile(r"([a-z]{2,3})([-_][a-z0-9]{2,8})*")
"""A code, or a BCP 47 language tag such as 'en-us'."""


class UnknownLanguage(ValueError):
    """A text is neither a language code nor a name; the message may suggest one."""


def language_code(text: str) -> str:
    """Return the ISO 639 code that ``text`` means: 'EN', 'en-US' and 'English' are 'en'.

    Any two or three letters pass for a code: the model tells which ones it knows.

    Raises:
        UnknownLanguage: it is neither a code nor the English name of a language.
    """
    typed = " ".join(text.lower().split())
    if (code := _CODES.get(typed)) is not None:
        return code
    if tag := _TAG.fullmatch(typed):
        return _FORMER_CODES.get(tag[1], tag[1])
    problem = "expected an ISO 639 code such as 'en', or a language's English name"
    if near := difflib.get_close_matches(typed, _CODES, n=1):
        problem = f"unknown language '{typed}'; did you mean '{near[0]}'?"
    raise UnknownLanguage(problem)
