"""The form of ``POST /jobs``: its fields, checked as early as they can be."""

import contextlib
from collections.abc import Collection

from pydantic import ValidationError

from api.intake.multipart import Field
from api.problems import describe, summarize
from api.spelling import with_nearest
from shared.infra.errors import InvalidRequest, RequestError
from shared.infra.outbound import Outbound
from shared.infra.webhooks.signature import check_secret
from shared.models.catalogue import Catalogue
from shared.models.choice import check_served, choose_model, names_model, served_supply
from shared.models.options import JobOptions, ResolvedOptions, resolve_options
from shared.speech.accuracy import check_reference


class Form:
    """The options of a form, as they come in before and after the file."""

    def __init__(
        self,
        catalogue: Catalogue,
        default_model: str,
        served: Collection[str],
        outbound: Outbound,
    ) -> None:
        """Begin an empty form; jobs for the models ``served`` are taken."""
        self._catalogue = catalogue
        self._served = served
        self._supply = served_supply(catalogue, default_model, served)
        self._outbound = outbound
        self._values: dict[str, str] = {}
        self._unknown: list[str] = []

    def add(self, field: Field) -> None:
        """Take a field.

        Raises:
            InvalidRequest: it was given before, or has what no text has.
        """
        if "\0" in field.value:
            raise InvalidRequest(f"the field {field.name!r} contains a NUL character")
        if field.name not in JobOptions.model_fields:
            self._unknown.append(field.name)
            return
        if field.name in self._values:
            raise InvalidRequest(f"the field {field.name!r} is given twice")
        self._values[field.name] = field.value

    def check_so_far(self) -> None:
        """Refuse what no later field can put right, as long as ``wait_for_worker`` is none.

        A form that has named no model yet is refused if no model can do what it asks for.

        Raises:
            InvalidRequest: unknown fields or bad values.
            UnknownModel: the catalogue has no such model.
            UnsupportedLanguage: the model does not speak the language.
            UnsupportedOption: the model cannot do what is asked of it.
            ModelNotServed: no worker serves the model, and the job is not to wait for one.
            ForbiddenUrl: nothing is sent to the job's webhook.
        """
        asked = self._asked()
        try:
            self._resolve(asked)
        except RequestError:
            if names_model(asked) or not self._any_model_can(asked):
                raise

    def resolve(self) -> tuple[JobOptions, ResolvedOptions]:
        """Return what is asked for, and what follows from it; raises like ``check_so_far``."""
        asked = self._asked()
        if (asked.webhook_url is None) != (asked.webhook_secret is None):
            raise InvalidRequest("webhook_url and webhook_secret are given together or not at all")
        return asked, self._resolve(asked)

    def _any_model_can(self, asked: JobOptions) -> bool:
        for model in self._catalogue.models:
            with contextlib.suppress(RequestError):
                self._resolve(asked.model_copy(update={"model": model}))
                return True
        return False

    def _resolve(self, asked: JobOptions) -> ResolvedOptions:
        choice = choose_model(asked, self._supply)
        if not asked.wait_for_worker:
            check_served(choice, asked, self._catalogue, self._served)
        return resolve_options(asked, choice.model)

    def _asked(self) -> JobOptions:
        if self._unknown:
            known = ("file", *JobOptions.model_fields)
            raise InvalidRequest(
                f"unknown fields: {with_nearest(self._unknown, known)}; "
                f"there are {', '.join(known)}"
            )
        # An empty field is what a form sends for a choice not made.
        given = {name: value for name, value in self._values.items() if value}
        try:
            asked = JobOptions.model_validate(given)
        except ValidationError as error:
            raise InvalidRequest(summarize(describe(error))) from error
        if asked.reference is not None:
            check_reference(asked.reference)
        if asked.webhook_url is not None:
            self._outbound.check_url(asked.webhook_url)
        if asked.webhook_secret is not None:
            check_secret(asked.webhook_secret)
        return asked
