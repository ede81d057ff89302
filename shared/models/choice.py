"""Which model a job gets: one rule for the API and the command line."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.infra.errors import (
    ModelNotServed,
    RequestError,
    SpeakersUnavailable,
    UnsupportedLanguage,
    UnsupportedOption,
)
from shared.models import AUTO
from shared.models.catalogue import Catalogue, Model
from shared.models.entries import DiarizationModel
from shared.models.options import JobOptions, check_options, needs_diarization

Reason = Literal["named", "language", "default", "served", "best"]
"""Why a job gets its model: the job names it, the catalogue prefers it for the job's language, the
operator's setting names it, it is served, or it is the best of those that are here."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The models to choose from, and which of them are available."""

    catalogue: Catalogue
    default: str
    """``LONGHAND_DEFAULT_MODEL``; empty: none."""
    is_at_hand: Callable[[Model], bool]
    """Whether the model can take a job now: it is served, or its weights are here."""
    is_served: Callable[[Model], bool]
    is_here: Callable[[Model], bool]
    """Whether the model can be used at all; asked in order of preference, until one can."""
    called: str
    """The name in error messages of the models for which ``is_here`` is true."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A job's model, and why it gets that one."""

    model: Model
    reason: Reason


def served_supply(catalogue: Catalogue, default: str, served: Collection[str]) -> Supply:
    """Return the supply of a platform that serves the models with these ids.

    All models of the catalogue count as here, because a worker may come.
    """

    def is_served(model: Model) -> bool:
        return model.id in served

    return Supply(catalogue, default, is_served, is_served, lambda _: True, "models there are")


def choose_model(options: JobOptions, supply: Supply) -> Choice:
    """Return the model that a job gets: the one it names, else the one of ``AUTO_RULE``.

    Raises:
        UnknownModel: the catalogue has no such model.
        UnsupportedLanguage: the named model, or every model that is here, lacks the language.
        UnsupportedOption: the same for another option.
    """
    catalogue = supply.catalogue
    if names_model(options):
        model = catalogue.get(options.model or "")
        check_options(options, model)
        return Choice(model, "named")
    if options.multilingual and options.language is not None:
        raise UnsupportedOption("a multilingual job cannot name one language")
    preferred = catalogue.preferred_for(options.language) if options.language else ()
    default = (catalogue.get(supply.default),) if supply.default else ()
    stages: Sequence[tuple[Reason, Iterable[Model], Callable[[Model], bool]]] = (
        ("language", preferred, supply.is_at_hand),
        ("default", default, lambda _: True),
        ("served", catalogue.ranking, supply.is_served),
        ("best", catalogue.ranking, supply.is_here),
    )
    for reason, models, is_available in stages:
        for model in models:
            if can_do(options, model) and is_available(model):
                return Choice(model, reason)
    here = [model for model in catalogue.ranking if supply.is_here(model)]
    raise _unmet(options, here, supply.called)


def names_model(options: JobOptions) -> bool:
    """Whether the job names a model; ``auto``, an omitted model and an empty one mean the same."""
    return options.model not in (None, "", AUTO)


def check_served(
    choice: Choice, options: JobOptions, catalogue: Catalogue, served: Collection[str]
) -> None:
    """Refuse a model that is not served.

    Raises:
        ModelNotServed: it is not among ``served``; the message says what to do instead.
    """
    model = choice.model.id
    if model in served:
        return
    those = [catalogue.models[each] for each in sorted(served) if each in catalogue.models]
    advice = f"name one that is served ({_names(those)}), " if those else ""
    problem = f"no worker serves '{model}'"
    if choice.reason == "default":
        problem += ", which LONGHAND_DEFAULT_MODEL names"
    elif not those:
        problem += ", nor any other model"
    elif choice.reason == "best" and not any(can_do(options, each) for each in those):
        problem = str(_unmet(options, those, "served models"))
        advice = ""
    raise ModelNotServed(
        f"{problem}; {advice}start a worker for '{model}', or set wait_for_worker to have the job "
        "wait until there is one",
        served,
    )


def choose_diarization(
    options: JobOptions, catalogue: Catalogue, served: Collection[str]
) -> DiarizationModel | None:
    """Return the model that tells a job's speakers apart; None: none is needed.

    It is the first of the catalogue that is served. A job that waits for workers gets the first.

    Raises:
        SpeakersUnavailable: none is served.
    """
    if not needs_diarization(options):
        return None
    models = [model for model in catalogue.diarizers.values() if model.is_pinned]
    for model in models:
        if model.id in served or options.wait_for_worker:
            return model
    if not models:
        raise SpeakersUnavailable("the catalogue has no model that tells speakers apart")
    raise SpeakersUnavailable(
        f"no worker tells speakers apart; start one for '{models[0].id}', or set wait_for_worker "
        "to have the job wait until there is one"
    )


def can_do(options: JobOptions, model: Model) -> bool:
    """Whether the model can do what the options ask."""
    try:
        check_options(options, model)
    except RequestError:
        return False
    return True


def _unmet(options: JobOptions, models: Sequence[Model], called: str) -> RequestError:
    """Return the error that says which option no model fulfils."""
    those = f"those are {_names(models)}" if models else "there is none"
    lacking = f"none of the {called}"
    if options.language and not any(model.speaks(options.language) for model in models):
        return UnsupportedLanguage(f"{lacking} knows language '{options.language}'; {those}")
    speaking = [model for model in models if not options.language or model.speaks(options.language)]
    prompt = options.prompt or options.hotwords
    wishes = (
        (options.task == "translate", [m.translates for m in speaking], "can translate"),
        (prompt, [m.takes_prompt for m in speaking], "takes a prompt or hotwords"),
        (options.multilingual, [m.detects_language for m in speaking], "detects languages"),
    )
    of_language = f" that knows language '{options.language}'" if options.language else ""
    for is_wished, can, what in wishes:
        if is_wished and not any(can):
            return UnsupportedOption(f"{lacking}{of_language} {what}; {those}")
    return UnsupportedOption(f"{lacking} can do all that is asked; {those}")


def _names(models: Iterable[Model]) -> str:
    return ", ".join(model.id for model in models)
