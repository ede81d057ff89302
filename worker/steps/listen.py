"""The ``listen`` step: make a job's listening copy, after the job has succeeded."""

import time

from shared.infra.storage import PART_BYTES, Storage, Upload
from shared.store import steps
from shared.store.objects.keys import listening_key
from shared.store.objects.removals import begin_upload
from worker.media.findings import Findings
from worker.media.opus import OpusWriter
from worker.media.read import read_audio
from worker.media.sandbox.client import Limits
from worker.process.heartbeat import Lease
from worker.process.runtime import Runtime

_ALLOWANCE_S = 6 * 3_600.0
"""When a copy is removed whose step was not completed."""


def listen(runtime: Runtime, lease: Lease) -> None:
    """Encode the job's audio, on the clock of its file, and store it.

    Raises:
        MediaError, PoisonousInput: the source cannot be decoded any more.
        StorageUnavailable, DatabaseUnavailable: try again.
        LeaseLost: another worker makes it now, or the job was deleted.
        WorkerStopping: the worker was told to stop.
    """
    claim, settings = lease.claim, runtime.settings
    begun = time.monotonic()
    n_bytes = None
    if steps.has_audio(runtime.database, claim.job_id):
        key = listening_key(claim.job_id)
        begin_upload(runtime.database, key, allowance_s=_ALLOWANCE_S)
        limits = Limits(
            audio_s=settings.max_duration_s,
            wall_s=settings.prepare_limit_s,
            memory_bytes=settings.prepare_memory_bytes,
        )
        n_bytes = _store_copy(runtime, lease, key, limits)
    timings = {"listen_s": round(time.monotonic() - begun, 3)}
    steps.complete_listen(runtime.database, claim, n_bytes=n_bytes, timings=timings)


def _store_copy(runtime: Runtime, lease: Lease, key: str, limits: Limits) -> int:
    claim = lease.claim
    findings = Findings()
    target = _Object(runtime.storage, key)
    try:
        copy = OpusWriter(target.append)
        n_decoded = 0
        with runtime.storage.open(claim.source_key, claim.source_bytes) as source:
            for block in read_audio(
                runtime.decoders,
                source,
                claim.source_bytes,
                limits,
                track=claim.options.track,
                findings=findings,
            ):
                lease.check()
                # Where the file has a gap, so has the copy: words keep their times.
                copy.silence(findings.times.time_of(n_decoded) - copy.n_samples)
                copy.write(block[0])
                n_decoded += block.shape[1]
                findings.times.forget_before(n_decoded)
        copy.close()
        return target.finish()
    except BaseException:
        target.abort()
        raise


class _Object:
    """An object that is written in pieces: by one request, or by parts if it is large."""

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage, self._key = storage, key
        self._rest = bytearray()
        self._n_bytes = 0
        self._n_parts = 0
        self._upload: Upload | None = None

    def append(self, data: bytes) -> None:
        self._rest += data
        self._n_bytes += len(data)
        while len(self._rest) >= PART_BYTES:
            self._send(bytes(self._rest[:PART_BYTES]))
            del self._rest[:PART_BYTES]

    def finish(self) -> int:
        """Store what is left; return the object's size."""
        if self._upload is None:
            self._storage.put(self._key, bytes(self._rest))
        else:
            if self._rest:
                self._send(bytes(self._rest))
            self._upload.finish()
            self._upload = None
        return self._n_bytes

    def abort(self) -> None:
        if self._upload is not None:
            self._upload.abort()

    def _send(self, part: bytes) -> None:
        if self._upload is None:
            self._upload = self._storage.start_upload(self._key)
        self._n_parts += 1
        self._upload.send(self._n_parts, part)
