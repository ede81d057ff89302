"""Receiving a file: from the socket through the hash into the object store, in bounded memory.

At most a batch of bytes waits here and a part in the store's writer; the next bytes are read from
the client only after these are written, so a slow store slows the client down. Whatever goes wrong,
a vanished client and a server that stops included, the object is gone afterwards.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from pydantic import ValidationError
from starlette.requests import Request

from api.multipart import MAX_FIELD_BYTES, MAX_PARTS, Field, FileBegin, FileData, FormParser
from api.problems import describe, summarize
from shared.accuracy import MAX_REFERENCE_CHARS, check_reference
from shared.catalogue import Catalogue
from shared.errors import (
    EmptyFile,
    InvalidRequest,
    LonghandError,
    RequestError,
    StorageUnavailable,
    TooManyUploads,
    UploadStalled,
    UploadTooLarge,
)
from shared.options import JobOptions, ResolvedOptions, resolve_options
from shared.storage import Storage, Upload

log = logging.getLogger(__name__)

IDLE_S = 30.0
"""How long a client may send nothing; the usual value of proxies is 30 to 60 s."""

_BATCH_BYTES = 1024**2
"""Bytes gathered for one hop into a thread, which costs as much as hashing some 100 KiB."""

_LONG_FIELDS = {"reference": 4 * MAX_REFERENCE_CHARS}
"""Fields that may be longer than the parser's usual limit, in bytes: UTF-8 has at most four for a
character."""

_FORM_BYTES = MAX_PARTS * (MAX_FIELD_BYTES + 1024) + sum(_LONG_FIELDS.values())
"""The most that fields, headers and boundaries add to a file."""

Result = TypeVar("Result")


class Form:
    """The options of a form, as they come in before and after the file."""

    def __init__(self, catalogue: Catalogue, default_model: str) -> None:
        self._catalogue = catalogue
        self._default_model = default_model
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
        """Refuse what no later field can put right.

        A form that has named no model yet is refused if no model can do what it asks for.

        Raises:
            InvalidRequest: unknown fields or bad values.
            UnknownModel: the catalogue has no such model.
            UnsupportedLanguage: the model does not speak the language.
            UnsupportedOption: the model cannot do what is asked of it.
        """
        asked = self._asked()
        try:
            self._resolve(asked)
        except RequestError:
            if asked.model is not None or not self._any_model_can(asked):
                raise

    def resolve(self) -> tuple[JobOptions, ResolvedOptions]:
        """Return what is asked for, and what follows from it; raises like ``check_so_far``."""
        asked = self._asked()
        return asked, self._resolve(asked)

    def _any_model_can(self, asked: JobOptions) -> bool:
        for model in self._catalogue.models:
            with contextlib.suppress(RequestError):
                self._resolve(asked.model_copy(update={"model": model}))
                return True
        return False

    def _resolve(self, asked: JobOptions) -> ResolvedOptions:
        return resolve_options(asked, self._catalogue, self._default_model)

    def _asked(self) -> JobOptions:
        if self._unknown:
            names = ", ".join(repr(name) for name in self._unknown)
            known = ", ".join(JobOptions.model_fields)
            raise InvalidRequest(f"unknown fields: {names}; there are file, {known}")
        # An empty field is what a form sends for a choice not made.
        given = {name: value for name, value in self._values.items() if value}
        try:
            asked = JobOptions.model_validate(given)
        except ValidationError as error:
            raise InvalidRequest(summarize(describe(error))) from error
        if asked.reference is not None:
            check_reference(asked.reference)
        return asked


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file that is in the object store whole."""

    name: str
    n_bytes: int
    sha256: str
    asked: JobOptions
    options: ResolvedOptions
    """What follows from ``asked``."""


class Receiver:
    """Receives the upload of one request as the object ``key``, counting its bytes."""

    def __init__(
        self,
        storage: Storage,
        key: str,
        *,
        max_bytes: int,
        threads: CapacityLimiter,
        count_bytes: Callable[[int], None],
        idle_s: float = IDLE_S,
    ) -> None:
        self._storage = storage
        self.key = key
        self._max_bytes = max_bytes
        self._threads = threads
        self._count_bytes = count_bytes
        self._idle_s = idle_s
        self._upload: Upload = storage.start_upload(key)
        self._hash = hashlib.sha256()
        self._batch = bytearray()
        self._n_bytes = 0
        self._finishing = False

    async def receive(self, request: Request, form: Form) -> ReceivedFile:
        """Store the request's file; on any failure nothing of it is left.

        Raises:
            RequestError: the body is not a form with one file within the limits and good options.
            StorageUnavailable: the object store failed.
            ClientDisconnect: the client went away.
        """
        parser = FormParser(request.headers.get("content-type"), long_fields=_LONG_FIELDS)
        self._refuse_declared_size(request)
        name = ""
        complete = False
        try:
            async for data in self._chunks(request):
                for event in parser.feed(data):
                    match event:
                        case Field():
                            form.add(event)
                        case FileBegin():
                            form.check_so_far()
                            name = event.file_name
                        case FileData():
                            await self._take(event.data)
            parser.finish()
            asked, options = form.resolve()
            if self._n_bytes == 0:
                raise EmptyFile("the file is empty")
            await self._in_thread(self._finish)
            complete = True
        finally:
            if not complete:
                await self._in_thread(self._discard)
        return ReceivedFile(name, self._n_bytes, self._hash.hexdigest(), asked, options)

    def _refuse_declared_size(self, request: Request) -> None:
        declared = request.headers.get("content-length")
        if declared is not None and int(declared) > self._max_bytes + _FORM_BYTES:
            raise self._too_large()

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body as it comes, as long as it comes."""
        n_bytes = 0
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    data = await anext(stream, None)
            except TimeoutError as error:
                raise UploadStalled(f"nothing was received for {self._idle_s:g} s") from error
            if data is None:
                return
            n_bytes += len(data)
            self._count_bytes(len(data))
            if n_bytes > self._max_bytes + _FORM_BYTES:
                raise self._too_large()
            yield data

    async def _take(self, data: bytes) -> None:
        self._n_bytes += len(data)
        if self._n_bytes > self._max_bytes:
            raise self._too_large()
        self._batch += data
        if len(self._batch) >= _BATCH_BYTES:
            await self._in_thread(self._write_batch)

    def _write_batch(self) -> None:
        batch = bytes(self._batch)
        self._batch.clear()
        self._hash.update(batch)
        self._upload.write(batch)

    def _finish(self) -> None:
        """Make the object visible, and see that the store has all of it."""
        self._write_batch()
        self._finishing = True
        self._upload.finish()
        if self._storage.size(self.key) != self._n_bytes:
            raise StorageUnavailable("the object store did not keep the whole file")

    def _discard(self) -> None:
        try:
            self._upload.abort()
            if self._finishing:
                self._storage.delete_prefix(self.key)
        except LonghandError as error:
            log.warning("%s was not removed: %s", self.key, error)

    def _too_large(self) -> UploadTooLarge:
        return UploadTooLarge(f"the file is larger than {self._max_bytes} bytes")

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` to its end, even when this request is cancelled meanwhile.

        A thread cannot be stopped; what it does must be over before its outcome is undone.
        """
        running = asyncio.ensure_future(to_thread.run_sync(work, limiter=self._threads))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


class UploadSlots:
    """How many uploads may be under way at once; past that they are refused, not queued.

    For use on the event loop only: nothing is locked.
    """

    def __init__(self, n_slots: int) -> None:
        self._n_slots = n_slots
        self._taken = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        """Take a slot.

        Raises:
            TooManyUploads: none is free.
        """
        if self._taken == self._n_slots:
            raise TooManyUploads("as many uploads as allowed are under way")
        self._taken += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        """Give the slot back."""
        self._taken -= 1
        if self._taken == 0:
            self._idle.set()

    async def drain(self, limit_s: float) -> None:
        """Wait until no upload is under way, those included that are cancelled and cleaned up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
