"""Uploads that are one request's body, whole and of any length."""

from collections.abc import AsyncIterator
from functools import partial

from uuid_utils.compat import uuid7

from api.intake.landing import Landed, Landing, too_large
from api.intake.submit import ALLOWANCE_S, Intake, abandon
from shared.store.objects.keys import upload_key
from shared.store.objects.removals import begin_upload
from shared.store.uploads import NewUpload, Upload, add_complete


async def receive_upload(
    intake: Intake,
    tenant: str,
    data: AsyncIterator[bytes],
    *,
    n_bytes: int | None,
    client: str,
    name: str,
) -> Upload:
    """Store what ``data`` yields as an upload, of which jobs can be made at once.

    If anything fails, nothing of it stays.

    Args:
        intake: what files are taken in with.
        tenant: whose upload it is.
        data: the file.
        n_bytes: its size, as declared; None: unknown.
        client: whose share of the places for uploads it takes.
        name: of the file.

    Raises:
        EmptyFile, UploadTooLarge, UploadStalled: it is refused.
        TooManyUploads, TooManyAtOnce: no place is free.
        StorageUnavailable, DatabaseUnavailable: try again.
    """
    limits = await intake.limits.get(tenant)
    if n_bytes is not None and n_bytes > limits.max_upload_bytes:
        raise too_large(limits.max_upload_bytes)
    # A client that cannot have a place learns it before it sends anything.
    intake.admission.check(n_bytes, tenant, client)
    first = await anext(data, b"")
    upload_id = uuid7()
    key = upload_key(upload_id)
    landing = Landing(
        intake.storage,
        key,
        max_bytes=limits.max_upload_bytes,
        threads=intake.large_threads,
        begin=partial(begin_upload, intake.engine, key, allowance_s=ALLOWANCE_S),
        abandon=partial(abandon, intake, key),
        cleanups=intake.cleanups,
    )

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in data:
            yield piece

    def keep(landed: Landed) -> Upload:
        new = NewUpload(upload_id, tenant, name, landed.n_bytes, landed.sha256, resumable=False)
        return add_complete(intake.engine, new, keep_s=intake.settings.keep_uploads_s)

    async with intake.admission.turn(n_bytes, tenant, client):
        return await landing.land(whole(), keep)
