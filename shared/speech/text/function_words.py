"""Words that belong to what follows them, by language: no line should end with one.

Netflix has lines break after punctuation, before conjunctions and before prepositions, and never
between an article and its noun, a pronoun or an auxiliary and its verb.
"""

from typing import Literal

Kind = Literal["clause", "phrase", "word"]
"""What a word begins: a clause (conjunctions, relatives, and pronouns that are subjects), a phrase
(prepositions, "and", "or"), or nothing that stands apart (articles, possessives, auxiliaries)."""

_CLAUSES = {
    "en": "but nor so yet because if although though unless until while when where whether "
    "since that which who whom whose what why how than as i we he she they there i'm "
    "i've i'll i'd we're we've we'll he's she's they're they've there's it's that's",
    "de": "aber denn sondern weil dass daß wenn falls obwohl während als ob bevor nachdem "
    "damit sodass da wo was wer wie welche welcher welches deren dessen ich wir er man",
    "fr": "mais ni car donc que qui dont où quand comme si lorsque puisque parce quoique je "
    "tu il elle nous ils elles on",
    "es": "pero sino ni porque que quien quienes cuando donde como si aunque mientras pues yo "
    "nosotros ellos",
    "pt": "mas nem porque que quem quando onde como se embora enquanto pois eu nós eles elas",
    "it": "ma né perché che chi cui quando dove come se benché mentre poiché io noi loro",
    "nl": "maar want omdat dat die als toen terwijl hoewel waar wat wie hoe ik wij we hij zij",
}
_PHRASES = {
    "en": "and or of to in on at by for with from into onto over under after before between "
    "through about against during without within toward towards upon like near per via "
    "among across behind",
    "de": "und oder in im ins an am ans auf aus bei beim mit nach von vom vor zu zum zur für "
    "durch gegen ohne um über unter zwischen hinter neben seit bis wegen trotz",
    "fr": "et ou de du des à au aux en dans sur sous par pour avec sans chez vers entre "
    "contre depuis pendant avant après",
    "es": "y e o u de del a al en con por para sin sobre entre hasta desde hacia contra según "
    "durante",
    "pt": "e ou de do da dos das a ao à aos às em no na nos nas com por pelo pela para sem "
    "sobre entre até desde contra",
    "it": "e ed o di del dello della dei degli delle a al allo alla ai agli alle da dal dalla "
    "in nel nella nei nelle su sul sulla con per senza tra fra verso contro",
    "nl": "en of van in op aan bij met naar voor door over onder tussen tegen zonder om uit "
    "tot sinds na te",
}
_WORDS = {
    "en": "the a an this these those my your his her its our their some any each every no all "
    "both more most very too not is are was were be been am has have had do does did "
    "will would can could shall should may must might don't didn't doesn't can't won't "
    "couldn't wouldn't isn't wasn't aren't weren't",
    "de": "der die das den dem des ein eine einen einem einer eines kein keine keinen mein "
    "meine sein seine ihr ihre unser unsere dieser diese dieses diesen diesem jeder "
    "jede jedes alle sehr nicht ist sind war waren hat haben hatte hatten wird werden "
    "wurde wurden kann können muss müssen soll sollen es sie",
    "fr": "le la les un une ce cet cette ces mon ma mes ton ta tes son sa ses notre nos votre "
    "vos leur leurs chaque quelque quelques tout toute tous toutes très plus ne est "
    "sont était étaient a ont avait avaient sera peut peuvent doit se",
    "es": "el la los las un una unos unas este esta estos estas ese esa esos esas mi mis tu "
    "tus su sus nuestro nuestra cada todo toda todos todas muy más no es son era eran "
    "ha han había habían será puede pueden debe se lo le les me te nos",
    "pt": "o os as um uma uns umas este esta estes estas esse essa meu minha seu sua seus "
    "suas nosso nossa cada todo toda todos todas muito mais não é são era eram foi tem "
    "têm tinha será pode podem deve me te lhe",
    "it": "il lo la i gli le un uno una questo questa questi queste quel quella quei mio mia "
    "suo sua suoi sue nostro nostra ogni tutto tutta tutti tutte molto più non è sono "
    "era erano ha hanno aveva avevano sarà può possono deve si mi ti ci vi",
    "nl": "de het een deze dit mijn jouw zijn haar ons onze hun elke elk alle heel zeer niet "
    "geen is was waren heeft hebben had hadden wordt worden werd werden kan kunnen moet "
    "moeten zal zullen zou zouden",
}
_KINDS: tuple[tuple[Kind, dict[str, str]], ...] = (
    ("word", _WORDS),
    ("phrase", _PHRASES),
    ("clause", _CLAUSES),
)
FUNCTION_WORDS: dict[str, dict[str, Kind]] = {
    language: {word: kind for kind, listed in _KINDS for word in listed[language].split()}
    for language in _CLAUSES
}
"""By language, in lower case: what such a word begins. Other languages are not known."""
