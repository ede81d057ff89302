"""Which model a job gets: one rule for the API and the command line."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.infra.errors import ModelNotServed, RequestError, UnsupportedLanguage, UnsupportedOption
from shared.models.catalogue import Catalogue, Model
from shared.models.options import AUTO, JobOptions, check_options

Reason = Literal["named", "language", "default", "served", "best"]
"""Why a job gets its model: the job names it, it is preferred for the job's language, the
operator's setting names it, it is served, or it is the best of those that are here."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The models to choose from, and which of them can be had."""

    catalogue: Catalogue
    default: str
    """``LONGHAND_DEFAULT_MODEL``; empty: none."""
    is_at_hand: Callable[[Model], bool]
    """Whether the model can take a job now: it is served, or its weights are here."""
    is_served: Callable[[Model], bool]
    is_here: Callable[[Model], bool]
    """Whether the model can be had at all; asked in order of preference, until one can."""
    called: str
    """What error messages call the models for which ``is_here`` is true."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A job's model, and why it gets that one."""

    model: Model
    reason: Reason


def served_supply(catalogue: Catalogue, default: str, served: Collection[str]) -> Supply:
    """Return the supply of a platform that serves the models with these ids.

    Where none of them will do, the best model of the catalogue counts as had: a worker may come.
    """

    def is_served(model: Model) -> bool:
        return model.id in served

    return Supply(catalogue, default, is_served, is_served, lambda _: True, "models there are")


def choose_model(options: JobOptions, supply: Supply) -> Choice:
    """Return the model that a job gets: the one it names, else the one of ``options.AUTO_RULE``.

    ``auto``, an omitted model and an empty one mean the same.

    Raises:
        UnknownModel: the catalogue has no such model.
        UnsupportedLanguage: the model that is named, or every one that is here, lacks the language.
        UnsupportedOption: the same for another option.
    """
    if names_model(options):
        model = supply.catalogue.get(options.model or "")
        check_options(options, model)
        return Choice(model, "named")
    if options.multilingual and options.language is not None:
        raise UnsupportedOption("a multilingual job cannot name one language")
    for choice in _candidates(options, supply):
        return choice
    here = [model for model in supply.catalogue.ranking if supply.is_here(model)]
    raise _unmet(options, here, supply.called)


def names_model(options: JobOptions) -> bool:
    """Whether the job names a model."""
    return options.model not in (None, "", AUTO)


def check_served(
    choice: Choice, options: JobOptions, catalogue: Catalogue, served: Collection[str]
) -> None:
    """Refuse a model that is not served; the error says what to do instead.

    Raises:
        ModelNotServed: it is not among ``served``.
    """
    model = choice.model.id
    if model in served:
        return
    advice = [
        f"start a worker for '{model}'",
        "or set wait_for_worker to have the job wait until there is one",
    ]
    those = [catalogue.models[each] for each in sorted(served) if each in catalogue.models]
    if choice.reason == "default":
        problem = f"no worker serves '{model}', which LONGHAND_DEFAULT_MODEL names"
    else:
        problem = f"no worker serves '{model}'" + ("" if those else ", nor any other model")
    if choice.reason == "best" and those and not any(can_do(options, model) for model in those):
        problem = str(_unmet(options, those, "served models"))
    elif those:
        advice.insert(0, f"name one that is served ({_names(those)})")
    raise ModelNotServed(f"{problem}; {', '.join(advice)}", served)


def _candidates(options: JobOptions, supply: Supply) -> Iterator[Choice]:
    """Yield the models by the rule, best first, without those that cannot do what is asked."""
    catalogue = supply.catalogue
    preferred = catalogue.preferred_for(options.language) if options.language else ()
    default = (catalogue.get(supply.default),) if supply.default else ()
    stages: Sequence[tuple[Reason, Iterable[Model], Callable[[Model], bool]]] = (
        ("language", preferred, supply.is_at_hand),
        ("default", default, lambda _: True),
        ("served", catalogue.ranking, supply.is_served),
        ("best", catalogue.ranking, supply.is_here),
    )
    for reason, models, can_be_had in stages:
        for model in models:
            if can_do(options, model) and can_be_had(model):
                yield Choice(model, reason)


def can_do(options: JobOptions, model: Model) -> bool:
    """Whether the model can do what is asked of it."""
    try:
        check_options(options, model)
    except RequestError:
        return False
    return True


def _unmet(options: JobOptions, models: Sequence[Model], called: str) -> RequestError:
    """Return the error that says which option none of the models can fulfil."""
    those = f"those are {_names(models)}" if models else "there is none"
    lacking = f"none of the {called}"
    if options.language and not any(model.speaks(options.language) for model in models):
        return UnsupportedLanguage(f"{lacking} knows language '{options.language}'; {those}")
    speaking = [model for model in models if not options.language or model.speaks(options.language)]
    wishes: tuple[tuple[bool, Callable[[Model], bool], str], ...] = (
        (options.task == "translate", lambda model: model.translates, "can translate"),
        (
            bool(options.prompt or options.hotwords),
            lambda model: model.takes_prompt,
            "takes a prompt or hotwords",
        ),
        (options.multilingual, lambda model: model.detects_language, "detects languages"),
    )
    of_language = f" that knows language '{options.language}'" if options.language else ""
    for is_wished, has, what in wishes:
        if is_wished and not any(has(model) for model in speaking):
            return UnsupportedOption(f"{lacking}{of_language} {what}; {those}")
    return UnsupportedOption(f"{lacking} can do all that is asked; {those}")


def _names(models: Iterable[Model]) -> str:
    return ", ".join(model.id for model in models)
