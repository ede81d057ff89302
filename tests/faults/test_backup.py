"""A backup made under load, restored elsewhere: jobs that had ended are read, others finish."""

import hashlib
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from cli.backup.make import Made, make_backup
from cli.backup.restore import restore_backup
from cli.embedded.servers import running_servers
from harness.faults.fault_stack import add_everything, fault_stack
from harness.faults.history import Recording
from harness.faults.nemesis import kill_model
from harness.faults.submitters import Crowd, Work
from harness.jobs.transcripts import get_transcript
from harness.programs.workers import fleet, wait_until
from shared.infra.database import begin, make_engine
from shared.infra.storage import Storage
from shared.store.jobs.audio import find_audio
from shared.store.states import JobState

JOBS = 36
IMPATIENT = {"lease_s": 3.0, "heartbeat_s": 0.5, "sweep_s": 0.5}


def works() -> list[Work]:
    """Files of a few words; every sixth takes several chunks, every ninth equals the one before."""
    made: list[Work] = []
    for number in range(JOBS):
        n_words = 200 if number % 6 == 3 else 5
        numbers = tuple(range(number * 250 + 1, number * 250 + 1 + n_words))
        made.append(made[-1] if number % 9 == 8 else Work(numbers))
    return made


def states(database: Engine) -> dict[UUID, JobState]:
    with begin(database) as connection:
        rows = connection.execute(text("SELECT id, state FROM jobs"))
        return {row.id: JobState(row.state) for row in rows}


@pytest.mark.timeout(600)
def test_a_backup_under_load_is_restored_elsewhere_and_its_jobs_finish(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(7)
    made: list[Made] = []
    gate = tmp_path / "gate"
    with fault_stack(tmp_path / "first", **IMPATIENT) as stack:
        add_everything(stack, pace_s=0.15, FAULTY_GATE=str(gate))
        crowd = Crowd(stack.url, works(), rng)
        crowd.start(4)
        crowd.allow(JOBS // 2)

        def back_up() -> None:
            made.append(
                make_backup(stack.settings, tmp_path / "backups", keep=None, say=lambda _: None)
            )

        try:
            for done, round_ in ((JOBS // 6, 1), (JOBS // 3, 2)):
                stack.wait(lambda done=done: len(succeeded(stack.database)) >= done)
                if round_ == 2:
                    gate.touch()  # what is heard now has not ended when the backup is made
                before = succeeded(stack.database)
                crowd.allow(JOBS // 4)
                if round_ == 2:
                    stack.wait(Path(f"{gate}.reached").exists)
                thread = threading.Thread(target=back_up)
                thread.start()
                if round_ == 2:
                    kill_model(stack, crowd, rng)
                stack.wait(lambda thread=thread: not thread.is_alive(), within_s=200)
        finally:
            gate.unlink(missing_ok=True)
            crowd.give_up()
        assert len(made) == 2
        recordings = crowd.recordings

    with running_servers(tmp_path / "second") as endpoints:
        settings = stack.settings.model_copy(
            update={
                "database_url": SecretStr(endpoints.database_url),
                "broker_url": SecretStr(endpoints.broker_url),
                "storage_url": SecretStr(endpoints.storage_url.rpartition("/")[0] + "/elsewhere"),
            }
        )
        restored = restore_backup(settings, tmp_path / "backups", lambda _: None)
        database = make_engine(settings)
        storage = Storage(settings.storage_url.get_secret_value())
        at_backup = states(database)
        assert before <= succeeded(database)
        assert restored.lost.audio == restored.lost.unfinished == 0
        for job_id, state in at_backup.items():
            if state == "succeeded":
                assert_readable(database, storage, job_id, recordings)
        with fleet(settings, tmp_path) as workers:
            workers.start("beat")
            workers.start("cpu", "--concurrency", "2")
            workers.start("model", "--model", "oracle")
            wait_until(
                lambda: set(states(database).values()) <= {"succeeded", "failed", "canceled"},
                within_s=100,
            )
        for job_id, state in states(database).items():
            assert state == "succeeded"
            assert_readable(database, storage, job_id, recordings)
        database.dispose()
    unfinished = sum(state != "succeeded" for state in at_backup.values())
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{len(at_backup)} jobs in the second backup, made under load in "
            f"{made[1].took_s:.1f} s: {made[1].objects} objects, {made[1].copied} of them new\n"
            f"restored elsewhere in {restored.took_s:.1f} s: "
            f"{len(at_backup) - unfinished} had succeeded and are read, {unfinished} finished"
        )
    assert unfinished > 0
    assert made[1].copied < made[1].objects


def succeeded(database: Engine) -> set[UUID]:
    return {job_id for job_id, state in states(database).items() if state == "succeeded"}


def assert_readable(
    database: Engine, storage: Storage, job_id: UUID, recordings: Mapping[str, Recording]
) -> None:
    """Its transcript is what was said, and its audio what was sent."""
    with begin(database) as connection:
        sha256, kept = connection.execute(
            text("SELECT sha256, audio_deleted_at IS NULL FROM jobs WHERE id = :id"), {"id": job_id}
        ).one()
    heard = get_transcript(database, "default", job_id).text
    assert heard.split() == recordings[sha256].text.split()
    if kept:
        audio = find_audio(database, "default", job_id)
        data = storage.read(audio.key, 0, audio.n_bytes)
        assert hashlib.sha256(data).hexdigest() == sha256
