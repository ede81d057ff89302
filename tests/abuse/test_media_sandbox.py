"""Files that take over the process that decodes them gain nothing, and end as their own jobs do."""

import io
import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sqlalchemy import Engine

from harness.jobs.job_store import add_stored_job, step_ids
from harness.jobs.step_runner import run_claimed
from harness.media import mutants, taken_over
from harness.media.recipes import KINDS, wav
from harness.programs.processes import is_alive
from harness.programs.workers import wait_until
from shared.infra.decoder_server import DecoderServer
from shared.infra.errors import MediaError, PoisonousInput, StorageUnavailable, UnreadableMedia
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.speech.audio.decoded import HEADER, RANGE, Kind
from shared.store.jobs.read import get_job
from worker.media import decode as decoding
from worker.media.errors import DecoderBug
from worker.media.findings import Findings
from worker.media.sandbox.client import READ_BYTES, Limits, decode
from worker.media.sandbox.server import AHEAD
from worker.process.bugs import fingerprint
from worker.process.runtime import make_runtime
from worker.steps.prepare import prepare

LIMITS = Limits(audio_s=60.0, wall_s=60.0, memory_bytes=1 << 29)
MORE_THAN_A_READ = READ_BYTES + 1


@pytest.fixture(scope="module")
def server() -> Iterator[DecoderServer]:
    with_ffmpeg = DecoderServer()
    yield with_ffmpeg
    with_ffmpeg.close()


@pytest.fixture(scope="module")
def taken() -> Iterator[DecoderServer]:
    """Decoders that do what their file says."""
    decoders = DecoderServer(taken_over.__name__)
    if "seccomp" in (lacks := decoders.sandbox().lacks):
        pytest.skip(f"this system has no seccomp: {lacks}")
    yield decoders
    decoders.close()


def do(
    taken: DecoderServer, what: str, limits: Limits = LIMITS, **wanted: object
) -> list[np.ndarray[Any, Any]]:
    file = io.BytesIO(json.dumps({"do": what, **wanted}).encode())
    return list(decode(taken, file, limits))


def told(taken: DecoderServer, what: str, **wanted: object) -> dict[str, Any]:
    """Return what a decoder found out."""
    with pytest.raises(UnreadableMedia) as refused:
        do(taken, what, **wanted)
    found: dict[str, Any] = json.loads(str(refused.value))
    return found


def test_a_decoder_that_is_taken_over_can_do_nothing_but_read_and_write(
    taken: DecoderServer,
) -> None:
    outcomes = told(taken, "try all that fails", pid=os.getpid())

    assert outcomes.keys() == taken_over.FAILING.keys()
    allowed = {name: how for name, how in outcomes.items() if how != "PermissionError"}
    assert allowed == {"lift a limit": "ValueError"}


@pytest.mark.parametrize("act", taken_over.DEADLY)
def test_a_decoder_that_tries_what_no_library_tries_is_ended(
    act: str, taken: DecoderServer
) -> None:
    with pytest.raises(PoisonousInput, match="died of SIGSYS"):
        do(taken, "try", act=act, pid=os.getpid())


def test_a_decoder_has_no_secret_and_no_right(taken: DecoderServer) -> None:
    seen = told(taken, "look around")

    assert seen["environment"] == {}
    assert len(seen["descriptors"]) == 4
    assert seen["descriptors"][:3] == [0, 1, 2]


def test_every_process_that_waits_for_a_file_is_confined(server: DecoderServer) -> None:
    sandbox = server.sandbox()
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    waiting = wait_until(lambda: confined(children.read_text().split()))

    assert len(waiting) >= 1
    for status in waiting:
        assert status["CapEff"] == status["CapBnd"] == status["CapPrm"] == "0" * 16
        assert status["Uid"].split()[0] != "0"
    assert {"rlimits", "no_new_privileges"} <= {*sandbox.holds}


def confined(pids: list[str]) -> list[dict[str, str]]:
    """Return the states of those that have a filter of system calls and no new privileges."""
    found = []
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1"):
            found.append(status)
    return found


def record(kind: int, data: bytes) -> str:
    return (HEADER.pack(kind, len(data)) + data).hex()


def audio(samples: bytes, **facts: object) -> bytes:
    usual = {"channels": 1, "at": 0, "anchors": [], "known_until": 0}
    return json.dumps(usual | facts).encode() + b"\n" + samples


NONSENSE = {
    "another kind": record(99, b""),
    "a record of 4 GB": HEADER.pack(Kind.AUDIO, 0xFFFF_FFFF).hex(),
    "no JSON": record(Kind.AUDIO, b"\x80\x04cposix\nsystem\n"),
    "deep JSON": record(Kind.DONE, b"[" * 200_000),
    "a list": record(Kind.DONE, b"[]"),
    "no audio": record(Kind.DONE, b'{"anchors": [], "known_until": 0, "warnings": []}'),
    "no facts": record(Kind.AUDIO, b"{}\n\0\0"),
    "half a sample": record(Kind.AUDIO, audio(b"\0")),
    "no samples": record(Kind.AUDIO, audio(b"")),
    "more than a second": record(Kind.AUDIO, audio(bytes(32_002))),
    "9 channels": record(Kind.AUDIO, audio(bytes(18), channels=9)),
    "other channels": record(Kind.AUDIO, audio(bytes(4)))
    + record(Kind.AUDIO, audio(bytes(4), channels=2)),
    "more than may be": record(Kind.AUDIO, audio(bytes(32_000))) * 63,
    "a place behind the end": record(Kind.AUDIO, audio(b"\0\0", at=1 << 40)),
    "a time beyond all": record(Kind.AUDIO, audio(b"\0\0", anchors=[[0, 1 << 70]])),
    "true": record(Kind.AUDIO, audio(b"\0\0", known_until=True)),
    "half an anchor": record(Kind.AUDIO, audio(b"\0\0", anchors=[[1]])),
    "a read before the start": record(Kind.READ, RANGE.pack(1 << 63, 8)),
    "a read of nothing": record(Kind.READ, RANGE.pack(0, 0)),
    "another error": record(Kind.REFUSED, b'{"code": "lease_lost", "detail": "x"}'),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_no_decoder_tells_counts_as_the_files_fault(name: str, taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="taken over"):
        do(taken, "record", bytes=NONSENSE[name])


def test_a_decoder_reads_its_own_file_only(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="taken over"):
        list(decode(taken, io.BytesIO(bytes(MORE_THAN_A_READ)), LIMITS))


def test_a_crash_is_told_with_its_signal(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="died of SIGABRT"):
        do(taken, "abort")


def test_a_record_that_is_cut_off_is_a_death(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="died of an unknown cause"):
        do(taken, "record", bytes=record(Kind.AUDIO, audio(bytes(400)))[:100])


def test_a_decoder_that_computes_for_ever_is_ended(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match=r"died of SIG(XCPU|KILL)"):
        do(taken, "spin")


def test_a_decoder_that_sleeps_is_left(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="takes longer than LONGHAND_PREPARE_LIMIT_S"):
        do(taken, "sleep", replace(LIMITS, wall_s=0.2))


def test_a_decoder_that_dribbles_has_no_longer_than_one_that_sleeps(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="takes longer than LONGHAND_PREPARE_LIMIT_S"):
        do(taken, "dribble", replace(LIMITS, wall_s=0.3))


def test_a_decoder_cannot_fill_the_memory_of_its_worker_with_anchors(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="taken over"):
        do(taken, "tell anchors")


def test_a_decoder_ends_when_nobody_listens(taken: DecoderServer) -> None:
    children = Path(f"/proc/{taken.pid}/task/{taken.pid}/children")
    with pytest.raises(PoisonousInput):
        do(taken, "go on")
    # Those that wait for an order stay.
    assert wait_until(lambda: len(children.read_text().split()) <= AHEAD)


def test_decoders_end_with_their_server(taken: DecoderServer) -> None:
    waiting = psutil.Process(taken.pid).children()
    assert waiting
    os.kill(taken.pid or 0, signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_alive, waiting)))


def test_a_decoder_has_bounded_memory(taken: DecoderServer) -> None:
    with pytest.raises(PoisonousInput, match="more memory than LONGHAND_PREPARE_MEMORY_BYTES"):
        do(taken, "eat", replace(LIMITS, memory_bytes=1 << 27))


def test_a_bug_is_logged_by_its_place_and_forges_no_line(
    taken: DecoderServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(DecoderBug) as bug:
        do(taken, "err")

    assert fingerprint(bug.value).startswith("ZeroDivisionError at decode_file:")
    assert "\n2026-11-27" not in caplog.text
    assert "    2026-11-27 CRITICAL a forged line" in caplog.text
    assert "\x1b" not in caplog.text


def test_every_kind_of_file_is_decoded_to_the_same_samples_and_facts(
    server: DecoderServer,
) -> None:
    for name in KINDS:
        whole = mutants.original(name)
        for data in (whole, whole[: len(whole) * 2 // 3]):
            here, apart = Findings(), Findings()
            expected = outcome(decoding.decode(io.BytesIO(data), 60.0, findings=here))
            found = outcome(decode(server, io.BytesIO(data), LIMITS, findings=apart))
            assert found == expected, name
            assert apart.warnings == here.warnings, name
            assert apart.times.anchors == here.times.anchors, name
            assert apart.times.known_until == here.times.known_until, name


def outcome(blocks: Iterator[np.ndarray[Any, Any]]) -> tuple[str, bytes]:
    try:
        return "audio", np.concatenate(list(blocks), axis=1).tobytes()
    except MediaError as error:
        return f"{error.code}: {error}", b""


def test_a_file_of_several_reads_is_decoded_whole(server: DecoderServer) -> None:
    pcm = np.random.default_rng(1).integers(-20_000, 20_000, 48 * 16_000).astype(np.int16)
    findings = Findings()
    blocks = decode(server, io.BytesIO(wav(pcm)), LIMITS, findings=findings)

    assert len(wav(pcm)) > MORE_THAN_A_READ
    assert np.array_equal(np.concatenate(list(blocks), axis=1)[0], pcm)
    assert findings.read_bytes == len(wav(pcm))


def test_an_outage_while_the_file_is_read_is_told_as_one(server: DecoderServer) -> None:
    class Away(io.BytesIO):
        def read(self, n_bytes: int | None = -1, /) -> bytes:
            if self.tell() >= READ_BYTES:
                raise StorageUnavailable("away")
            return super().read(n_bytes)

    with pytest.raises(StorageUnavailable):
        list(decode(server, Away(wav(np.zeros(2 * READ_BYTES, np.int16))), LIMITS))


def test_a_server_that_is_killed_is_started_anew(server: DecoderServer) -> None:
    file = wav(np.ones(16_000, np.int16))
    assert len(list(decode(server, io.BytesIO(file), LIMITS))) == 1
    killed = server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: server.pid != killed)

    assert len(list(decode(server, io.BytesIO(file), LIMITS))) == 1


def test_a_file_that_kills_its_decoder_each_time_fails_its_job_as_poison(
    database: Engine, storage: Storage, settings: Settings, taken: DecoderServer
) -> None:
    made = make_runtime(settings.model_copy(update={"retry_base_s": 0.0}), "test")
    runtime = replace(made, decoders=taken)
    job_id = add_stored_job(database, storage, b'{"do": "abort"}')
    (step_id,) = step_ids(database, job_id, "prepare")
    for _ in range(3):
        run_claimed(runtime, step_id, prepare)
    made.close()

    job = get_job(database, "default", job_id)
    assert (job.state, job.error_code) == ("failed", "poisonous_input")
    assert job.error_detail == (
        "the process that decodes the file died of SIGABRT (after 3 attempts)"
    )


def test_one_server_serves_a_process_and_those_that_it_forks(server: DecoderServer) -> None:
    server.start()
    pid = os.fork()
    if pid == 0:
        served = 0
        try:
            served = len(list(decode(server, io.BytesIO(wav(np.ones(99, np.int16))), LIMITS)))
        finally:
            os._exit(0 if served == 1 else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
