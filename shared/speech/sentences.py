"""Which words end a sentence or a clause.

A full stop ends a sentence or an abbreviation. Lists of abbreviations tell which, for the larger
languages of Latin script, and so does the next word: no sentence begins with a lower-case letter.
"""

import re

SENTENCE_ENDS = frozenset(".?!…。！？｡؟।")  # noqa: RUF001 (other scripts are meant)
"""Last characters of words that end a sentence, in the scripts of the catalogue's languages."""
CLAUSE_ENDS = frozenset(",;:–—،؛、，；：､")  # noqa: RUF001
"""Last characters of words that end a clause."""
CLOSING_MARKS = "\"'”’»)]』」）"  # noqa: RUF001
"""Marks that may follow a sentence's end within the word."""
_CLOSING_BRACKETS = frozenset('"”»)]』」）')  # noqa: RUF001
"""Closing marks that are not used as apostrophes."""
_OPENING_MARKS = "\"'“‘„‚«»([¿¡-–—"  # noqa: RUF001
"""Marks that may stand before a word's first letter."""


def _by_language(**words: str) -> dict[str, frozenset[str]]:
    return {language: frozenset(listed.split()) for language, listed in words.items()}


_BEFORE_A_NAME = _by_language(
    en="mr mrs ms mx dr prof rev hon messrs capt col lt cmdr sgt gov sen rep gen maj supt st mt",
    de="dr prof hr fr frl st dipl ing mag hl bgm",
    fr="m mm mme mmes mlle mlles dr pr me mgr st ste",
    es="sr sra sres srta dr dra d dña prof ud uds lic ing gral sto sta",
    pt="sr sra srs dr dra d prof profa eng exmo exma",
    it="sig sigg dott dott.ssa prof avv ing arch geom on mons",
    nl="dhr mevr mw dr drs prof ir ing mr ds st",
    sv="dr prof hr fr",
    da="dr prof hr fr",
    no="dr prof hr fr",
    pl="dr prof mgr inż ks św gen płk por",
    cs="dr prof ing mgr bc sv p pí",
    ro="dl dna dr prof ing sf",
    tr="dr prof doç av yrd",
)
"""Titles: a name follows, in upper or lower case."""
_BEFORE_A_NUMBER = _by_language(
    en="no nos p pp vol ch fig figs art sec eq jan feb mar apr jun jul aug sep sept oct nov dec",
    de="nr nrn s bd abs art abb kap tab ziff ca jan febr apr aug sept okt nov dez",
    fr="n no p pp vol chap art fig env",
    es="n núm nro pág págs vol cap art fig aprox",
    pt="n núm pág págs vol cap art fig",
    it="n nr pag pagg vol cap art fig ca",
    nl="nr blz p art afb ca",
    sv="nr s kap ca",
    da="nr s kap ca",
    no="nr s kap ca",
    pl="nr str s ust art rys ok",
    cs="č str s čl obr",
    ro="nr pag art cap fig",
    tr="no s",
)
"""Abbreviations that stand before a number."""
_MID_SENTENCE = _by_language(
    en="vs viz cf approx eg ie al",
    de="bzw vgl sog evtl ggf inkl bspw gem lt zzgl exkl geb gest jh ev kath",
    fr="cf env av apr éd",
    es="ej vs av avda depto",
    pt="ex vs av aprox",
    it="es cfr",
    nl="bijv o.a resp incl excl zgn evt mej",
    sv="bl.a t.ex dvs resp inkl exkl",
    da="bl f.eks dvs hhv inkl ekskl pga",
    no="bl f.eks dvs hhv inkl ekskl pga",
    pl="np tzn tzw tj m.in ul al pl zob",
    cs="např tzv tj resp popř mj ul nám",
    ro="ex str",
    tr="örn bkz vb",
)
"""Abbreviations after which a sentence goes on, in German even if a capitalized noun follows."""
_ORDINAL_LANGUAGES = frozenset({"de", "da", "no", "nb", "nn", "fi", "cs", "sk", "pl", "hu", "tr"})
"""Languages that write "5." for "5th"."""
_TIMES_OF_DAY = frozenset({"a.m", "p.m"})


def ends_sentence(word: str, following: str | None = None, language: str | None = None) -> bool:
    """Whether a sentence ends with this word.

    Args:
        word: with its punctuation.
        following: the next word; None where there is none or it is not known.
        language: ISO 639 code; None: English abbreviations are looked for.
    """
    bare = word.rstrip(CLOSING_MARKS)
    if bare[-1:] not in SENTENCE_ENDS:
        return False
    if following is not None and following.lstrip(_OPENING_MARKS)[:1].islower():
        return False
    if not bare.endswith(".") or bare.endswith(".."):
        return True
    return not _is_abbreviation(bare[:-1].lstrip(_OPENING_MARKS), following, language or "en")


def ends_clause(word: str) -> bool:
    """Whether a clause, or a part of one between marks, ends with this word."""
    bare = word.rstrip(CLOSING_MARKS)
    return (
        bare[-1:] in CLAUSE_ENDS
        or (bare[-1:] in SENTENCE_ENDS and bare[-1:] != ".")
        or bare.endswith(("--", "..."))
        or word[-1:] in _CLOSING_BRACKETS
    )


def _is_abbreviation(stem: str, following: str | None, language: str) -> bool:
    """Whether the full stop after ``stem`` marks an abbreviation."""
    lowered = stem.lower()
    before_number = following is not None and following.lstrip(_OPENING_MARKS)[:1].isdigit()
    if lowered in _of(_BEFORE_A_NUMBER, language) and (before_number or len(stem) > 1):
        return before_number
    if lowered in _TIMES_OF_DAY:
        return False
    return (
        (len(stem) == 1 and stem.isalpha() and (language, stem) != ("en", "I"))  # "J", "z", "B"
        or re.fullmatch(r"[^\W\d]{1,3}(\.[^\W\d]{1,3})+", stem) is not None  # "e.g", "U.S", "z.B"
        or lowered in _of(_BEFORE_A_NAME, language)
        or lowered in _of(_MID_SENTENCE, language)
        or (language in _ORDINAL_LANGUAGES and re.fullmatch(r"\d{1,2}", stem) is not None)
    )


def _of(words: dict[str, frozenset[str]], language: str) -> frozenset[str]:
    return words.get({"nb": "no", "nn": "no"}.get(language, language), frozenset())
