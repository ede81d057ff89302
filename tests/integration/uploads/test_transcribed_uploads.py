"""A file that came in by tus, and the job that is made of it."""

from dataclasses import replace

import httpx
import numpy as np
from sqlalchemy import Engine
from uuid_utils.compat import uuid7

from harness.clients.tus import begin
from harness.jobs.preparations import run_all, speech, texts
from harness.media.recipes import wav
from shared.infra.settings import Settings
from shared.models.options import ResolvedOptions
from shared.store.jobs.create import NewJob, create_job
from shared.store.uploads import get_upload
from worker.batching.batcher import Batcher
from worker.engines.oracle import OracleEngine
from worker.process.runtime import make_runtime


def test_a_job_of_an_upload_is_transcribed_from_the_uploads_object(
    client: httpx.Client, database: Engine, settings: Settings
) -> None:
    file = wav((speech(1) * 32767).astype(np.int16))
    sent = begin(client, len(file), filename="talk.wav")
    assert sent.patch(client, 0, file[:1000]).status_code == 204
    assert sent.patch(client, 1000, file[1000:]).status_code == 204
    upload = get_upload(database, "default", sent.id)
    job = NewJob(
        id=uuid7(),
        tenant="default",
        options=ResolvedOptions(model="oracle", vad="energy"),
        upload_id=upload.id,
        source_key=upload.key,
        source_name=upload.name,
        source_bytes=upload.size_bytes,
        sha256=upload.sha256 or "",
    )
    create_job(database, job, max_attempts=3)

    runtime = replace(make_runtime(settings, "test"), batcher=Batcher(OracleEngine()))
    try:
        transcript = run_all(runtime, job.id)
    finally:
        runtime.close()

    words = [word.text for segment in transcript.segments for word in segment.words]
    assert words == texts(0, 20)
