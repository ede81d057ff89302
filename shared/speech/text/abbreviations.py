# ruff: noqa: RUF001 (other scripts are meant)
"""Abbreviations that are written with a full stop, by language, in lower case without the stop.

A single letter ("J."), letters with stops between them ("e.g."), and numbers that are ordinal are
recognized without lists (``sentences``). A language without lists has these alone.
"""


def _by_language(**words: str) -> dict[str, frozenset[str]]:
    return {language: frozenset(listed.split()) for language, listed in words.items()}


BEFORE_A_NAME = _by_language(
    en="mr mrs ms mx dr prof rev hon messrs capt col lt cmdr sgt gov sen rep gen maj supt st mt",
    de="dr prof med phil jur hr fr frl fa st dipl ing mag hl bgm",
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
    hu="dr prof ifj id özv",
    fi="dr prof",
    ru="гг ул пр проф акад им тов гр св",
    uk="вул просп проф акад ім св",
    el="κα κος δρ καθ αγ",
    hi="डॉ प्रो श्री",
    vi="tp ts ths gs pgs bs",
    id="dr drs prof ir hj bpk jl",
)
"""Titles: a name follows, in upper or lower case."""
BEFORE_A_NUMBER = _by_language(
    en="no nos p pp vol ch fig figs art sec eq jan feb mar apr jun jul aug sep sept oct nov dec",
    de="nr nrn s bd abs art abb kap tab ziff ca str jan febr apr aug sept okt nov dez",
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
    ru="стр рис табл гл ст",
    uk="стор рис табл гл ст",
)
"""Abbreviations that stand before a number."""
MID_SENTENCE = _by_language(
    en="vs viz cf approx eg ie al",
    de="co bzw vgl sog evtl ggf inkl bspw gem lt zzgl exkl geb gest jh ev kath",
    fr="cf env av apr éd",
    es="ee ej vs av avda depto",
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
    hu="pl ill ún kb",
    fi="esim ks ns mm",
    ru="др пр см ср напр тыс млн млрд руб коп",
    uk="див напр тис млн млрд грн",
    el="π.χ βλ",
)
"""Abbreviations after which a sentence goes on, in German even if a capitalized noun follows."""
