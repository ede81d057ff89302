"""Which models can be used here and now, and which one ``auto`` means."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cli.embedded.signals import StopFlag
from cli.errors import CommandError
from cli.progress import Progress
from shared.catalogue import HUB_ENGINES, Model, load_catalogue
from shared.errors import LonghandError
from shared.settings import get_settings

AUTO = "auto"
PREFERRED = "whisper-base"
"""What ``auto`` means when its weights are here or can be fetched."""
FALLBACK = "starter"
HUB_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a model can be used here and now, and what stands in the way or is to be done."""

    usable: bool
    reason: str
    needs_download: bool = False


def offered_models() -> Sequence[Model]:
    """Return the catalogue's models in its order, without the hidden ones.

    Those whose weights the operator has still to name are among them: the operator reads this list.

    Raises:
        CommandError: the catalogue cannot be read.
    """
    try:
        models = load_catalogue(get_settings().catalogue).models.values()
        return [model for model in models if not model.hidden]
    except LonghandError as error:
        raise CommandError(str(error)) from error


def find_model(model_id: str) -> Model:
    """Return a catalogue entry.

    Raises:
        CommandError: there is none of that id.
    """
    try:
        return load_catalogue(get_settings().catalogue).get(model_id)
    except LonghandError as error:
        raise CommandError(str(error)) from error


def availability(model: Model, hub_answers: Callable[[], bool]) -> Availability:
    """Look for a model's engine and weights; asks the hub only where weights are missing."""
    # Imported late: the engines' helpers take a while to load.
    from worker.engines import missing_engine
    from worker.engines.weights import cached, why_not_pinned

    if problem := why_not_pinned(model):
        return Availability(False, problem)
    if missing := missing_engine(model):
        return Availability(False, missing)
    if model.engine not in HUB_ENGINES:
        return Availability(True, "comes with the install")
    if cached(model) is not None:
        return Availability(True, "ready")
    if model.folder is not None:
        return Availability(False, "its weights are not in the folder that the catalogue names")
    size = f"{model.size_bytes / 1e6:.0f} MB"
    if hub_answers():
        return Availability(True, f"downloaded on first use, {size}", needs_download=True)
    return Availability(
        False, f"weights ({size}) not downloaded, and the model hub does not answer"
    )


def hub_probe() -> Callable[[], bool]:
    """Return a function that asks the hub once, and remembers."""
    from worker.engines.weights import hub_answers

    answers: list[bool] = []

    def ask() -> bool:
        if not answers:
            answers.append(hub_answers(timeout_s=HUB_TIMEOUT_S))
        return answers[0]

    return ask


def preferred_model(language: str) -> Model | None:
    """Return the model that the catalogue prefers for a language, if there is one.

    Raises:
        CommandError: the catalogue cannot be read.
    """
    try:
        return load_catalogue(get_settings().catalogue).for_language(language)
    except LonghandError as error:
        raise CommandError(str(error)) from error


def prepare_model(
    wanted: str | None, flag: StopFlag, progress: Progress, *, language: str | None = None
) -> Model:
    """Return the model to use for ``wanted`` (None or 'auto': the best one), its weights in place.

    Where no model is named, a language has the one that the catalogue prefers for it, if its
    weights are here already.

    Raises:
        CommandError: a model named outright is unknown, or cannot be used here.
        Stopped: a signal came during the download.
    """
    if wanted is None and language is not None:
        preferred = preferred_model(language)
        if preferred is not None and availability(preferred, lambda: False).usable:
            return preferred
    probe = hub_probe()
    chosen = wanted not in (None, AUTO)
    model = find_model(wanted if wanted and chosen else PREFERRED)
    found = availability(model, probe)
    if found.usable and not found.needs_download:
        return model
    problem = found.reason
    if found.usable:
        problem = _download(model, flag, progress)
        if not problem:
            return model
    if chosen:
        raise CommandError(f"model '{model.id}' cannot be used here: {problem}")
    progress.say(low_accuracy_note(problem))
    return find_model(FALLBACK)


def low_accuracy_note(reason: str) -> str:
    """Say, so that nobody misses it, that accuracy is low, why, and how to change that."""
    bar = "=" * 78
    return (
        f"{bar}\nNOTE: LOW ACCURACY. Using '{FALLBACK}', the small model that comes with the "
        f"install:\nexpect many wrong words. '{PREFERRED}' is not usable: {reason}.\n"
        "For a good transcript run this again with access to the internet (or put its weights\n"
        f"into the Hugging Face cache); './longhand models' lists what there is.\n{bar}"
    )


def _download(model: Model, flag: StopFlag, progress: Progress) -> str:
    """Fetch weights in a thread: the main one stays free for signals. Return what failed, if so."""
    from worker.engines.weights import download

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
            problems.append(f"download failed: {error.strerror or error}")

    thread = threading.Thread(target=fetch, name="download", daemon=True)
    thread.start()
    while thread.is_alive():
        flag.check()
        flag.sleep(0.1)
    return problems[0] if problems else ""
