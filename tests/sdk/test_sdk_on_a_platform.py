"""The SDK and the commands over it on a whole platform.

Each claim about the SDK holds for the client with ``await`` and without.
"""

import hashlib
import io
import json
import random
import shutil
import signal
import subprocess
from pathlib import Path

import longhand_sdk.jobs
import pytest
from longhand_sdk import (
    JobCanceled,
    Progress,
    ProgressEvent,
    SegmentsEvent,
    StateEvent,
    WaitTimeout,
)
from longhand_sdk.errors import JobNotFound, UnreadableMedia

from harness.clients.sdk import Connect, Platform
from harness.peers.file_server import serving_files
from harness.programs.command_line import COMMAND, ENV, longhand, write_words
from harness.programs.workers import wait_until
from harness.repository.documents import Block, blocks
from harness.repository.tree import ROOT
from harness.servers.api_server import Relay


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that says four words, 0 to 3."""
    return write_words(tmp_path_factory.mktemp("audio") / "words.wav", [0, 1, 2, 3])


SAID = "w00000 w00001 w00002 w00003"


def test_a_file_becomes_a_transcript_and_its_progress_is_told_in_order(
    platform: Platform, connect: Connect, words: Path
) -> None:
    told: list[Progress] = []
    client = connect(platform.url)

    transcript = client.transcribe(words, on_progress=told.append, language="en", cache=False)

    assert transcript.text == SAID
    assert [word.text for word in transcript.words] == SAID.split()
    assert transcript.words[0].start < transcript.words[-1].end <= transcript.duration_s
    sent = [each for each in told if each.stage == "uploading"]
    assert sent[-1].percent == 100.0
    assert sent[-1].sent_bytes == sent[-1].total_bytes == words.stat().st_size
    heard = told[len(sent) :]
    assert heard[-1].job is not None
    assert heard[-1].job.state == "succeeded"
    assert heard[-1].percent == 100.0
    for stage in (sent, heard):
        percents = [each.percent for each in stage if each.percent is not None]
        assert percents == sorted(percents)


class Pipe(io.BytesIO):
    """A file that cannot be rewound."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    tell = seek  # type: ignore[assignment]


def test_bytes_open_files_pipes_and_urls_are_the_same_file_as_a_path(
    platform: Platform, connect: Connect, words: Path
) -> None:
    client, audio = connect(platform.url), words.read_bytes()
    first = client.jobs.submit(words)
    assert first.wait(60).text == SAID
    with words.open("rb") as file, serving_files() as server:
        for same in (audio, file, Pipe(audio), server.put("/a.wav", audio)):
            job = client.jobs.submit(same)
            assert job.wait(60).text == SAID
            assert job.info.cached
            assert job.info.source.sha256 == first.info.source.sha256


def test_a_large_file_is_sent_by_tus_and_its_job_is_the_same(
    platform: Platform, connect: Connect, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(platform.url)
    digest = client.jobs.submit(words).info.source.sha256
    monkeypatch.setattr(longhand_sdk.jobs, "RESUMABLE_BYTES", 1000)
    told: list[Progress] = []

    job = client.jobs.submit(words, on_progress=told.append)

    assert job.info.source.sha256 == digest
    assert job.info.source.name == "words.wav"
    assert told[-1].percent == 100.0
    assert job.wait(60).text == SAID


def test_a_large_file_whose_connection_is_cut_is_whole_in_the_end(
    platform: Platform,
    connect: Connect,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(longhand_sdk.jobs, "RESUMABLE_BYTES", 1000)
    noise = random.Random(7).randbytes(20_000_000)
    audio = words.read_bytes() + b"LIST" + len(noise).to_bytes(4, "little") + noise
    path = tmp_path / "long.wav"
    path.write_bytes(audio)
    relay = Relay(int(platform.url.rpartition(":")[2]))
    cuts = [4_000_000, 14_000_000]

    def cut(progress: Progress) -> None:
        if cuts and progress.sent_bytes >= cuts[0]:
            del cuts[0]
            relay.go_away()

    client = connect(f"http://127.0.0.1:{relay.port}", sleep=lambda _: relay.come_back())
    try:
        job = client.jobs.submit(path, on_progress=cut)
    finally:
        relay.cut()

    assert cuts == []
    assert job.info.source.sha256 == hashlib.sha256(audio).hexdigest()


def test_a_job_that_does_not_end_in_time_goes_on_and_can_be_canceled_and_deleted(
    platform: Platform, connect: Connect, words: Path
) -> None:
    client = connect(platform.url)
    job = client.jobs.submit(words, model="starter", vad="off", cache=False)  # nobody serves it
    assert job.state == "queued"

    with pytest.raises(WaitTimeout):
        job.wait(0.2)
    assert client.jobs.get(job.id, wait_s=0.1).state in ("queued", "running")
    assert job.cancel().state == "canceled"
    with pytest.raises(JobCanceled) as canceled:
        job.wait()
    assert canceled.value.job is not None
    assert canceled.value.job.state == job.state == "canceled"
    assert job.retry().state == "queued"
    job.delete()
    with pytest.raises(JobNotFound):
        job.refresh()


def test_a_file_that_is_no_audio_fails_with_the_exception_of_its_code(
    platform: Platform, connect: Connect
) -> None:
    job = connect(platform.url).jobs.submit(b"no audio at all", cache=False)
    with pytest.raises(UnreadableMedia) as failed:
        job.wait(60)
    assert failed.value.code == "unreadable_media"
    assert failed.value.partial is None
    assert job.state == "failed"


def test_the_events_of_a_job_are_typed_and_can_be_resumed_after_any(
    platform: Platform, connect: Connect, words: Path
) -> None:
    job = connect(platform.url).jobs.submit(words, cache=False)

    told = list(job.events())

    states = [event for event in told if isinstance(event, StateEvent)]
    assert [event.state for event in states] == ["queued", "running", "succeeded"]
    (segments,) = [event for event in told if isinstance(event, SegmentsEvent)]
    assert " ".join(each.text for each in segments.segments) == SAID
    assert any(isinstance(event, ProgressEvent) for event in told)
    known = [event for event in told if not isinstance(event, ProgressEvent)]
    rest = [
        event for event in job.events(after=known[0].id) if not isinstance(event, ProgressEvent)
    ]
    assert rest == known[1:]
    assert list(job.events(after=known[-1].id)) == []


def test_what_a_job_has_can_be_read_in_every_way(
    platform: Platform, connect: Connect, words: Path
) -> None:
    client = connect(platform.url)
    job = client.jobs.submit(words, metadata={"order": 17, "kind": connect.__qualname__})
    job.wait(60)

    assert job.transcript().text == SAID
    assert job.export("txt").decode().strip() == SAID
    assert b"-->" in job.export("srt", max_line_width=20)
    assert job.measure("w00000 w00001 w00002 other").word_errors == 1
    (hit, *_) = client.search("w00002")
    assert hit.text == SAID
    assert [match.text for match in hit.matches] == ["w00002"]
    assert job.id in [each.id for each in client.jobs.list(metadata=["order=17"])]
    assert job.id not in [each.id for each in client.jobs.list(state=["failed", "canceled"])]
    assert {model.id: model.state for model in client.models()}["starter"] == "absent"
    assert {"cpu", "model"} <= {worker.role for worker in client.workers()}
    assert client.request("GET", "/usage").json()["total"]["jobs"] > 0


def test_webhooks_are_kept_changed_and_removed(platform: Platform, connect: Connect) -> None:
    webhooks = connect(platform.url).webhooks
    made = webhooks.create("http://127.0.0.1:9/hook", events=["job.failed"])
    assert made.secret.startswith("whsec_")
    assert made.id in [each.id for each in webhooks.list()]
    assert webhooks.update(made.id, description="mine").description == "mine"
    assert webhooks.rotate(made.id).secret != made.secret
    assert not webhooks.test(made.id).delivered
    (delivery,) = webhooks.deliveries(endpoint_id=made.id)
    assert delivery.event.type == "webhook.test"
    webhooks.delete(made.id)
    assert made.id not in [each.id for each in webhooks.list()]


def test_an_answer_that_is_lost_after_the_body_leaves_one_job(
    platform: Platform, connect: Connect, words: Path
) -> None:
    relay = Relay(int(platform.url.rpartition(":")[2]))
    pauses: list[float] = []
    mark = f"lost-{connect.__self__._kind}"  # type: ignore[attr-defined]
    client = connect(f"http://127.0.0.1:{relay.port}", sleep=pauses.append)
    try:
        relay.lose_answer(b"POST /jobs", b"--\r\n")
        job = client.jobs.submit(words, cache=False, metadata={"mark": mark})
    finally:
        relay.cut()
    assert len(pauses) == 1
    found = platform.native.get("/jobs", params={"metadata": f"mark={mark}"}).json()["jobs"]
    assert [each["id"] for each in found] == [job.id]


def asked(
    platform: Platform, *words: str | Path, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = longhand(*words, LONGHAND_SERVER=platform.url)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_commands_list_print_watch_and_search_jobs(platform: Platform, words: Path) -> None:
    native = platform.native
    with words.open("rb") as file:
        fields = {"cache": "false", "metadata": json.dumps({"for": "commands"})}
        job = native.post("/jobs", files={"file": ("talk.wav", file)}, data=fields).json()["id"]

    watched = asked(platform, "watch", job)
    assert watched.stdout == f"0:00  {SAID}\n"
    assert watched.stderr.splitlines()[-1] == "talk.wav: succeeded"

    (line,) = asked(platform, "jobs", "--metadata", "for=commands").stdout.splitlines()
    assert line.split()[:2] == [job, "succeeded"]
    assert line.endswith("talk.wav")
    assert asked(platform, "jobs", "--state", "failed", "--metadata", "for=commands").stdout == ""
    assert len(asked(platform, "jobs", "--limit", "2").stdout.splitlines()) == 2
    assert asked(platform, "get", job).stdout == f"{SAID}\n"
    assert "-->" in asked(platform, "get", job, "-f", "srt").stdout
    hits = asked(platform, "search", '"w00001 w00002"').stdout.splitlines()
    assert [line.split()[0] for line in hits][:1] == [job]
    nowhere = asked(platform, "search", "nowhere", code=1)
    assert (nowhere.stdout, nowhere.stderr) == ("", "longhand: nothing found\n")


def test_commands_cancel_a_job_and_say_why_a_transcript_cannot_be_had(
    platform: Platform, words: Path
) -> None:
    with words.open("rb") as file:
        fields = {"cache": "false", "model": "starter", "vad": "off"}  # nobody serves it
        job = platform.native.post("/jobs", files={"file": file}, data=fields).json()["id"]
    refused = asked(platform, "get", job, code=1)
    assert refused.stderr.startswith("longhand: error: ")
    assert asked(platform, "get", job, "--partial").stdout == "\n"
    # One that is not there does not keep the other running.
    assert asked(platform, "cancel", "nonsense", job, code=1).stderr.splitlines() == [
        "longhand: error: nonsense: there is no job nonsense",
        f"longhand: {job}: canceled",
    ]
    assert asked(platform, "watch", job, code=1).stderr.splitlines()[-1] == "words.wav: canceled"
    assert "there is no job" in asked(platform, "get", "nonsense", code=1).stderr


def test_commands_keep_webhooks_and_show_workers(platform: Platform) -> None:
    secret = asked(
        platform, *("webhooks", "add", "http://127.0.0.1:9/hook", "--event", "job.failed")
    ).stdout.strip()
    (line,) = asked(platform, "webhooks", "list").stdout.splitlines()
    webhook = line.split()[0]
    assert line.split()[1:] == ["http://127.0.0.1:9/hook", "enabled", "job.failed"]
    assert "not delivered: " in asked(platform, "webhooks", "test", webhook, code=1).stderr
    (sent,) = asked(platform, "webhooks", "deliveries").stdout.splitlines()
    assert "webhook.test" in sent
    assert asked(platform, "webhooks", "rotate", webhook).stdout.strip() != secret
    asked(platform, "webhooks", "remove", webhook)
    assert asked(platform, "webhooks", "list").stdout == ""
    roles = [line.split()[1] for line in asked(platform, "workers").stdout.splitlines()]
    assert sorted(roles) == ["beat", "cpu", "model"]


def test_a_command_without_a_platform_says_how_to_have_one(tmp_path: Path) -> None:
    done = longhand("jobs", "--data", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"longhand: error: no platform runs in {tmp_path}: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("there is no bash")
    assert "_LONGHAND_COMPLETE" in longhand("completion", shell).stdout
    typed = {"COMP_WORDS": "longhand wor", "COMP_CWORD": "1"}
    found = longhand(_LONGHAND_COMPLETE="bash_complete", **typed).stdout
    assert found.splitlines() == ["plain,workers"]


def test_files_that_are_in_a_watched_folder_or_come_into_it_are_transcribed(
    platform: Platform, words: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(words, folder / "first.wav")
    (folder / "broken.wav").write_bytes(b"no audio")
    (folder / "notes.md").write_text("no audio")
    command = [*COMMAND, "transcribe", "--watch-folder", str(folder), "-o", str(out)]
    with subprocess.Popen(
        [*command, "--server", platform.url], env=ENV, stderr=subprocess.PIPE, text=True
    ) as watching:
        try:
            wait_until((out / "first.txt").exists)
            shutil.copy(words, folder / "second.wav")  # taken once the first ones have ended
            wait_until((out / "second.txt").exists)
        finally:
            watching.send_signal(signal.SIGINT)
        _, stderr = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert {path.name for path in out.iterdir()} == {"first.txt", "second.txt"}
    assert (out / "second.txt").read_text().strip() == SAID
    assert stderr.count("broken.wav: failed") == 1
    assert stderr.count("first.wav: done") == 1


SAMPLES = [block for block in blocks("docs/sdk.md") if block.language == "python"]


@pytest.mark.parametrize("block", SAMPLES, ids=str)
def test_a_sample_of_the_documentation_runs(
    platform: Platform, block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    text = block.text.replace("http://127.0.0.1:8000", platform.url)
    exec(compile(text.replace("sleep(0.1)", "sleep(0)"), str(block), "exec"), {})
