"""Which of this machine's models a job gets, for a platform that is not started yet."""

import textwrap
import threading

from cli.errors import CommandError, os_reason
from cli.progress.lines import Progress
from cli.signals import StopFlag
from shared.infra.errors import LonghandError, SpeakersUnavailable
from shared.infra.settings import get_settings
from shared.models.catalogue import Model, read_catalogue
from shared.models.choice import Choice, Supply, can_do, choose_model
from shared.models.options import JobOptions, needs_diarization
from shared.models.usable import NOWHERE, Availability, availability, network_once
from shared.models.weights import AnyModel

_WIDTH = 78
"""Columns of the frame around the note on a second-best model."""


class LocalModels:
    """The catalogue, and which of its models this machine can run."""

    def __init__(self) -> None:
        settings = get_settings()
        self.catalogue = read_catalogue(settings)
        self._default = settings.default_model
        self.unfetched: dict[str, str] = {}
        """Why weights could not be fetched, by the model's id; such a model is not usable."""

    def availability(self, model: AnyModel) -> Availability:
        """Tell whether a model can be used, possibly after its weights have been downloaded."""
        if model.id in self.unfetched:
            return Availability(False, self.unfetched[model.id])
        return availability(model, network_once())

    def choose(self, options: JobOptions) -> Choice:
        """Return the model for a job; raises like ``choose_model``."""
        supply = Supply(
            self.catalogue,
            self._default,
            is_at_hand=lambda model: availability(model, NOWHERE).usable,
            is_served=lambda _: False,
            is_here=self._is_here,
            called="models that can be used here",
        )
        return choose_model(options, supply)

    def better(self, choice: Choice, options: JobOptions) -> tuple[Model, str] | None:
        """Return the first choice of the catalogue, and why it is not usable.

        None where that was chosen, or the catalogue did not decide.
        """
        if choice.reason != "best":
            return None
        for model in self.catalogue.ranking:
            if model == choice.model:
                break
            found = self.availability(model)
            if can_do(options, model) and not found.usable:
                return model, found.reason
        return None

    def _is_here(self, model: Model) -> bool:
        found = self.availability(model)
        worth_it = model in self.catalogue.first_choices
        return found.usable and (worth_it or not found.needs_download)


def prepare_model(options: JobOptions, flag: StopFlag, progress: Progress) -> Model:
    """Return the model for jobs with these options, its weights in place.

    Raises:
        CommandError: it cannot be used here.
        ModelError: the catalogue is missing or wrong.
        RequestError: the model is unknown, or none can do what is asked.
        Stopped: a signal came during the download.
    """
    local = LocalModels()
    while True:
        choice = local.choose(options)
        model = choice.model
        found = local.availability(model)
        problem = "" if found.usable else found.reason
        if found.needs_download:
            problem = _download(model, flag, progress)
        if not problem:
            if (better := local.better(choice, options)) is not None:
                language_is_open = options.language is None
                progress.say(second_best_note(model, *better, language_is_open=language_is_open))
            return model
        if choice.reason != "best":
            setting = "LONGHAND_DEFAULT_MODEL: " if choice.reason == "default" else ""
            raise CommandError(f"{setting}model '{model.id}' cannot be used here: {problem}")
        local.unfetched[model.id] = problem


def prepare_diarization(options: JobOptions, flag: StopFlag, progress: Progress) -> str | None:
    """Return the id of the model that tells the jobs' speakers apart, its weights in place.

    None where no model is to do that.

    Raises:
        SpeakersUnavailable: none can be used here.
        Stopped: a signal came during the download.
    """
    if not needs_diarization(options):
        return None
    local = LocalModels()
    problem = "the catalogue has no pinned model for it"
    for model in local.catalogue.diarizers.values():
        if not model.is_pinned:
            continue
        found = local.availability(model)
        problem = "" if found.usable else f"'{model.id}' is not usable: {found.reason}"
        if found.needs_download:
            problem = _download(model, flag, progress)
        if not problem:
            return model.id
    raise SpeakersUnavailable(f"speakers cannot be told apart here: {problem}")


def diarization_here() -> str | None:
    """Return the id of the model that can tell speakers apart without a download, if any can."""
    models = LocalModels().catalogue.diarizers.values()
    return next((model.id for model in models if availability(model, NOWHERE).usable), None)


def second_best_note(
    model: Model, better: Model, reason: str, *, language_is_open: bool = False
) -> str:
    """Return a framed note: which model is used instead of a better one, and why.

    ``language_is_open``: nobody has said which language is spoken.
    """
    if model.is_rough:
        headline = f"LOW ACCURACY. Using '{model.id}': expect many wrong words."
    else:
        headline = f"Using '{model.id}', which is not the best of the catalogue."
    if language_is_open and model.only_language and model.only_language != better.only_language:
        headline += (
            f" It hears everything as language '{model.only_language}': name another one with "
            "--language."
        )
    advice = "For a better transcript "
    if better.needs_weights and any(not place.is_folder for place in better.places):
        advice += (
            "run this again with access to the internet (or put its weights into the Hugging Face "
            "cache), or "
        )
    advice += "name another model with --model; './longhand models' lists what there is."
    paragraphs = (f"NOTE: {headline}", f"'{better.id}' is not usable: {reason}.", advice)
    lines = (textwrap.fill(each, _WIDTH, break_on_hyphens=False) for each in paragraphs)
    bar = "=" * _WIDTH
    return "\n".join([bar, *lines, bar])


def _download(model: AnyModel, flag: StopFlag, progress: Progress) -> str:
    """Fetch weights in a thread, so that the main thread can look for signals.

    Returns:
        Why they cannot be fetched; '' if they are here.
    """
    from shared.models.weights import download

    def show(done_bytes: int, total_bytes: int) -> None:
        megabytes = f"{done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB"
        progress.show(model.id, "downloading", done_bytes / max(total_bytes, 1), megabytes)

    problems: list[str] = []

    def fetch() -> None:
        try:
            download(model, show)
        except LonghandError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"download failed: {os_reason(error)}")

    thread = threading.Thread(target=fetch, name="download", daemon=True)
    thread.start()
    flag.wait_until(lambda: not thread.is_alive())
    progress.leave(model.id, "downloading", line=not problems)
    return "".join(problems)
