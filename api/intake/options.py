"""Which options are taken: what jobs ask for, checked against the models that are served now."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from anyio import to_thread

from api.access.principal import check_priority
from shared.infra.errors import ConflictingOptions, RequestError
from shared.infra.outbound import Outbound
from shared.infra.webhooks.signature import check_secret
from shared.models.catalogue import Catalogue
from shared.models.choice import (
    check_served,
    choose_diarization,
    choose_model,
    names_model,
    served_supply,
)
from shared.models.options import AskedSpeakers, JobOptions, ResolvedOptions, resolve_options
from shared.speech.text.accuracy import check_reference

KEEP_S = 1.0
"""How long the served models are remembered. They change within minutes; a refusal asks again."""

Served = frozenset[str]
"""Ids of the models whose jobs are taken."""


class ServedModels:
    """The models whose jobs are taken, asked for at most once in ``KEEP_S`` however many submit."""

    def __init__(
        self, find: Callable[[], Served], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask ``find``, which is called in a thread, when they are needed."""
        self._find = find
        self._clock = clock
        self._known: Served = frozenset()
        self._known_until = clock()
        self._asking: asyncio.Future[Served] | None = None

    async def get(self) -> Served:
        """Return what was found within ``KEEP_S``; raises what ``find`` raises."""
        return self._known if self._clock() < self._known_until else await self.ask()

    async def ask(self) -> Served:
        """Return what is found now; those who ask at the same time share one answer."""
        if self._asking is None:
            self._asking = asyncio.ensure_future(to_thread.run_sync(self._find))
            self._asking.add_done_callback(self._answered)
        return await asyncio.shield(self._asking)

    def _answered(self, asking: asyncio.Future[Served]) -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:
            self._known = asking.result()
            self._known_until = self._clock() + KEEP_S


class OptionCheck:
    """Checks and resolves options; one for the whole process."""

    def __init__(
        self, catalogue: Catalogue, default_model: str, outbound: Outbound, served: ServedModels
    ) -> None:
        self._catalogue = catalogue
        self._default_model = default_model
        self._outbound = outbound
        self._served = served

    async def prepare(self) -> None:
        """See that options can be checked, before anything of a file is read.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        await self._served.get()

    async def resolve(self, asked: JobOptions) -> ResolvedOptions:
        """Return what follows from the options of a job.

        Raises:
            ConflictingOptions: one of the webhook's URL and secret is missing, or the numbers of
                speakers contradict each other.
            InvalidRequest: the reference, or the webhook's secret, is of no use.
            UnknownModel: the catalogue has no such model.
            UnsupportedLanguage: the model does not speak the language.
            UnsupportedOption: the model cannot do what is asked of it.
            ModelNotServed: no worker serves the model, and the job is not to wait for one.
            SpeakersUnavailable: the same for the model that tells speakers apart.
            ForbiddenUrl: nothing is sent to the job's webhook.
            ScopeMissing: who asks may not have the priority.
            DatabaseUnavailable: Postgres cannot be reached.
        """
        if not _is_complete(asked):
            raise ConflictingOptions(
                "webhook_url and webhook_secret are given together or not at all"
            )
        self._check_values(asked)
        return await self._resolve_served(asked)

    async def check_so_far(self, asked: JobOptions) -> ResolvedOptions | None:
        """Refuse what no later option can put right, as long as ``wait_for_worker`` is none.

        Options that name no model are refused if no model can do what they ask. Returns what
        follows from the options if no others come, or None if others must come. Raises like
        ``resolve``.
        """
        self._check_values(asked)
        try:
            options = await self._resolve_served(asked)
        except RequestError:
            if names_model(asked) or not self._any_model_can(asked, await self._served.get()):
                raise
            return None
        return options if _is_complete(asked) else None

    async def _resolve_served(self, asked: JobOptions) -> ResolvedOptions:
        try:
            return self._resolve(asked, await self._served.get())
        except RequestError:  # a worker may have come since
            return self._resolve(asked, await self._served.ask())

    def _check_values(self, asked: JobOptions) -> None:
        check_priority(asked.priority)
        if isinstance(asked.speakers, AskedSpeakers):
            asked.speakers.check()
            if asked.speakers.identify and asked.multichannel:
                raise ConflictingOptions("speakers: identify does not go with multichannel")
        if asked.reference is not None:
            check_reference(asked.reference)
        if asked.webhook_url is not None:
            self._outbound.check_url(asked.webhook_url)
        if asked.webhook_secret is not None:
            check_secret(asked.webhook_secret)

    def _any_model_can(self, asked: JobOptions, served: Served) -> bool:
        for model in self._catalogue.models:
            with contextlib.suppress(RequestError):
                self._resolve(asked.model_copy(update={"model": model}), served)
                return True
        return False

    def _resolve(self, asked: JobOptions, served: Served) -> ResolvedOptions:
        supply = served_supply(self._catalogue, self._default_model, served)
        choice = choose_model(asked, supply)
        if not asked.wait_for_worker:
            transcribing = served - self._catalogue.diarizers.keys()
            check_served(choice, asked, self._catalogue, transcribing)
        diarization = choose_diarization(asked, self._catalogue, served)
        return resolve_options(asked, choice.model, diarization)


def _is_complete(asked: JobOptions) -> bool:
    return (asked.webhook_url is None) == (asked.webhook_secret is None)
