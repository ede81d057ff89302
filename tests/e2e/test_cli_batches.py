"""Many files, folders and formats through the command line, on one platform that is up."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.programs.command_line import COMMAND, ENV, PATIENT_COMMAND, Up, transcribe, write_words
from harness.programs.terminal import Terminal
from harness.programs.workers import wait_until
from harness.servers import patient

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "docx")
ROWS, COLUMNS = 24, 80


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batches") / "data"


@pytest.fixture(scope="module")
def up(data: Path) -> Iterator[Up]:
    running = Up(data)
    yield running
    running.end(signal.SIGTERM)


def newest_jobs(up: Up) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = patient.get(f"{up.url}/jobs", params={"limit": 100}).json()[
        "jobs"
    ]
    return found


def names_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_folder_in_several_formats_is_one_job_per_file_and_keeps_its_structure(
    data: Path, up: Up, tmp_path: Path
) -> None:
    folder = tmp_path / "rec"
    for name, number in (("mon/talk.wav", 11), ("tue/talk.wav", 12), ("tue/talk.wave.wav", 13)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_words(folder / name, [number])
    (folder / "tue" / "talk.mp3").write_bytes(b"no audio")
    before = len(newest_jobs(up))

    done = transcribe(data, folder, "-f", "txt,srt", "--format", "json", "-o", tmp_path / "out")

    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert f"longhand: found 4 audio and video files in {folder}" in lines
    assert lines[-1].startswith("longhand: 3 of 4 files done, 1 failed; ")
    assert ", RTFx " in lines[-1]
    assert len(newest_jobs(up)) == before + 4
    stems = ("mon/talk", "tue/talk.wav", "tue/talk.wave")
    expected = {f"{stem}.{form}" for stem in stems for form in ("txt", "srt", "json")}
    assert names_in(tmp_path / "out") == expected
    assert (tmp_path / "out" / "tue" / "talk.wav.txt").read_text() == "w00012\n"

    (folder / "tue" / "talk.mp3").unlink()
    (tmp_path / "out" / "mon" / "talk.srt").unlink()
    again = transcribe(
        data, folder, "-f", "txt,srt,json", "-o", tmp_path / "out2", "--skip-existing"
    )
    assert again.returncode == 0, again.stderr
    # Without talk.mp3 nothing shares the name any more.
    assert names_in(tmp_path / "out2") == {
        f"{stem}.{form}"
        for stem in ("mon/talk", "tue/talk", "tue/talk.wave")
        for form in ("txt", "srt", "json")
    }
    assert "3 of 3 files done (3 cached)" in again.stderr.splitlines()[-1]


def test_subtitles_have_lines_as_wide_and_as_many_as_asked_for(
    data: Path, up: Up, tmp_path: Path
) -> None:
    clip = write_words(tmp_path / "clip.wav", list(range(60, 72)))
    sizes = ("--max_line_width", "20", "--max-line-count", "1")
    done = transcribe(data, clip, "-f", "txt,srt", "-o", tmp_path / "out", *sizes)
    assert done.returncode == 0, done.stderr
    cues = (tmp_path / "out" / "clip.srt").read_text().rstrip().split("\n\n")
    lines = [line for cue in cues for line in cue.split("\n")[2:]]
    assert len(lines) == len(cues) > 3
    assert max(map(len, lines)) == 20
    assert " ".join(lines).split() == (tmp_path / "out" / "clip.txt").read_text().split()


def test_skip_existing_does_what_is_missing_and_then_nothing(
    data: Path, up: Up, tmp_path: Path
) -> None:
    clips = [write_words(tmp_path / f"{n}.wav", [n, 21]) for n in (1, 2)]
    out = tmp_path / "out"
    options = ("-f", "all", "-o", out, "--skip-existing")
    assert transcribe(data, clips[0], *options).returncode == 0
    (out / "1.txt").write_text("mine")

    second = transcribe(data, *clips, *options)
    assert second.returncode == 0, second.stderr
    assert second.stderr.splitlines()[-1].startswith("longhand: 1 of 2 files done, 1 skipped; ")
    assert names_in(out) == {f"{n}.{form}" for n in (1, 2) for form in FORMATS}
    assert (out / "1.txt").read_text() == "mine"

    before = len(newest_jobs(up))
    third = transcribe(data, *clips, *options)
    assert third.returncode == 0
    assert third.stderr == "longhand: nothing to do: 2 skipped, their transcripts are there\n"
    assert len(newest_jobs(up)) == before


def test_json_of_several_files_is_one_document_a_line(data: Path, up: Up, tmp_path: Path) -> None:
    clips = [write_words(tmp_path / f"{name}.wav", [31, n]) for n, name in enumerate(("b", "日本"))]
    done = transcribe(data, *clips, "--format", "json", PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["file"] for document in documents] == [str(clip) for clip in clips]
    assert [document["text"] for document in documents] == ["w00031 w00000", "w00031 w00001"]
    alone = transcribe(data, clips[0], "--format", "json")
    assert json.loads(alone.stdout)["text"] == "w00031 w00000"
    assert "file" not in json.loads(alone.stdout)


def test_standard_input_is_a_file(data: Path, up: Up, tmp_path: Path) -> None:
    clip = write_words(tmp_path / "clip.wav", [41])
    with clip.open("rb") as audio:
        done = subprocess.run(
            [*COMMAND, "transcribe", "-", "-o", str(tmp_path / "out"), "--data", str(data)],
            env=ENV | {"TMPDIR": str(tmp_path)},
            stdin=audio,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "stdin.txt").read_text() == "w00041\n"
    assert newest_jobs(up)[0]["source"]["name"] == "stdin"
    assert not list(tmp_path.glob("longhand-*"))


def test_options_of_whisper_are_understood_or_named(data: Path, up: Up, tmp_path: Path) -> None:
    clip = write_words(tmp_path / "clip.wav", [51])
    done = transcribe(
        *(data, clip, "--output_dir", tmp_path / "out", "--output_format", "vtt"),
        *("--device", "cuda", "--beam_size", "5", "--vad_filter", "False", "--language", "English"),
        *("--metadata", '{"order": 17}', "--model", ""),
    )
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "out") == {"clip.vtt"}
    told = "longhand: --device, --beam_size decide nothing here; the platform and the catalogue do"
    assert told in done.stderr.splitlines()
    job = newest_jobs(up)[0]
    assert (job["vad"], job["language"], job["metadata"]) == ("off", "en", {"order": 17})


def test_reference_tells_the_error_rates(data: Path, up: Up, tmp_path: Path) -> None:
    clip = write_words(tmp_path / "clip.wav", [61, 62, 63, 64])
    (tmp_path / "said.txt").write_text("w00061 w00062 w00099 w00064", encoding="utf-8-sig")
    done = transcribe(data, clip, "--reference", tmp_path / "said.txt")
    assert done.stdout == "w00061 w00062 w00063 w00064\n", done.stderr
    said = f"longhand: {clip}: word error rate 25.0% (1 of 4 words), character error rate 7.4%"
    assert said in done.stderr.splitlines()
    assert newest_jobs(up)[0]["metrics"]["accuracy"]["word_errors"] == 1


def test_warnings_of_a_transcript_are_told(data: Path, up: Up, tmp_path: Path) -> None:
    clip = tmp_path / "loud.wav"
    samples = write_words(clip, [71]).read_bytes()
    # Flat runs at full scale, after the word: clipped, and no speech.
    clip.write_bytes(with_samples(samples, b"\xff\x7f" * 32_000))
    done = transcribe(data, clip)
    assert done.stdout == "w00071\n", done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("longhand: warning: ")]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"longhand: warning: {clip}: ")
    assert warnings[0].endswith("(clipped_audio)")


def with_samples(wav: bytes, more: bytes) -> bytes:
    """A WAV file of wave's making, its samples followed by others."""
    header, samples = wav[:44], wav[44:] + more
    return (
        header[:4]
        + struct.pack("<I", 36 + len(samples))
        + header[8:40]
        + struct.pack("<I", len(samples))
        + samples
    )


@contextmanager
def paused(up: Up, name: str) -> Iterator[None]:
    """Stop a program of the platform and its children for a while."""
    program = psutil.Process(up.pids()[name])
    family = [program, *program.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def planned_job(up: Up, name: str) -> str | None:
    """Return the newest job if it is that of this file and its chunks are known."""
    for job in newest_jobs(up)[:1]:
        if job["source"]["name"] == name and job["progress"]["chunks_known"]:
            return str(job["id"])
    return None


def test_ctrl_c_leaves_what_was_done_until_a_later_run_completes_it(
    data: Path, up: Up, tmp_path: Path
) -> None:
    long = write_words(tmp_path / "long.wav", list(range(2000)))
    out = tmp_path / "out"
    command = [*PATIENT_COMMAND, "transcribe", str(long), "-o", str(out), "-f", "txt,srt"]
    with ExitStack() as at_the_end:
        with paused(up, "worker-oracle"):
            running = at_the_end.enter_context(
                subprocess.Popen(
                    [*command, "--server", up.url], env=ENV, stderr=subprocess.PIPE, text=True
                )
            )
            job = wait_until(lambda: planned_job(up, long.name))
            # Nobody stitches the job's chunks, so that it cannot succeed before the signal.
            at_the_end.enter_context(paused(up, "worker-cpu"))
        wait_until(
            lambda: patient.get(f"{up.url}/jobs/{job}").json()["progress"]["chunks_done"] > 0
        )
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=100)
        wait_until(lambda: patient.get(f"{up.url}/jobs/{job}").json()["state"] == "canceled")
    assert running.returncode == 130
    assert f"longhand: {long}: what was done is in {out / 'long.txt.partial'}" in stderr
    assert names_in(out) == {"long.txt.partial", "long.srt.partial"}
    words = (out / "long.txt.partial").read_text().split()
    assert words == sorted(words)  # of the chunks that were done, which may be any
    assert words
    assert set(words) <= {f"w{number:05}" for number in range(2000)}

    assert transcribe(data, long, "-o", out, "-f", "txt,srt").returncode == 0
    assert names_in(out) == {"long.txt", "long.srt"}
    assert (out / "long.txt").read_text().split() == [f"w{number:05}" for number in range(2000)]


def test_transcript_that_has_no_place_is_told_and_found_elsewhere(
    data: Path, up: Up, tmp_path: Path
) -> None:
    clip = write_words(tmp_path / "clip.wav", [81])
    (tmp_path / "out" / "clip.txt").mkdir(parents=True)
    done = transcribe(data, clip, "-o", tmp_path / "out")
    assert done.returncode == 1
    told = f"cannot write {tmp_path / 'out' / 'clip.txt'}: Is a directory; the transcript is at "
    _, found, url = done.stderr.splitlines()[-1].partition(told)
    assert found
    assert patient.get(url).text == "w00081\n"


def test_stdout_that_cannot_be_written_is_one_line_and_a_failure(
    data: Path, up: Up, tmp_path: Path
) -> None:
    clip = write_words(tmp_path / "clip.wav", [91])
    command = [*COMMAND, "transcribe", str(clip), "--data", str(data)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, env=ENV, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    last = "longhand: error: cannot write to standard output: No space left on device"
    assert done.stderr.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("closed", "code", "stderr"),
    [
        (">&-", 1, "longhand: error: standard output is closed: name a folder by --output\n"),
        ("2>&-", 0, ""),
    ],
)
def test_closed_streams_make_no_traceback(
    data: Path, up: Up, tmp_path: Path, closed: str, code: int, stderr: str
) -> None:
    clip = write_words(tmp_path / "clip.wav", [92])
    command = [*COMMAND, "transcribe", str(clip), "--data", str(data)]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, stderr)
    assert done.stdout == ("w00092\n" if code == 0 else "")


def test_forty_files_never_need_more_than_their_block_of_the_terminal(
    data: Path, up: Up, tmp_path: Path
) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    for number in range(40):
        write_words(folder / f"call-{number:02}.wav", [number, 100])
    for number in (7, 23):
        (folder / f"call-{number:02}.wav").write_bytes(b"no audio")
    terminal, code = on_a_terminal(
        "transcribe", folder, "--output", tmp_path / "out", "--jobs", "3", "--data", data
    )
    assert code == 1
    assert len(names_in(tmp_path / "out")) == 38
    assert 1 <= terminal.most_up <= len(("three", "under", "way", "total"))
    lines = [line for line in terminal.lines() if line]
    assert not [line for line in lines if "╌" in line or "━" in line or "/40 done" in line]
    assert lines[0] == f"longhand: found 40 audio and video files in {folder}"[:COLUMNS]
    names = [line.split()[0] for line in lines if "  failed  " in line]
    assert [name.rpartition("/")[2] for name in names] == ["call-07.wav", "call-23.wav"]
    assert sum("longhand: error: " in line for line in lines) == 2
    assert lines[-1].startswith("longhand: 38 of 40 files done, 2 failed; ")
    assert not [line for line in lines if "  done  " in line]


def on_a_terminal(*arguments: str | Path) -> tuple[Terminal, int]:
    """Run the command on a terminal whose cursor is in its last row; return it, and the code."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    env = {k: v for k, v in ENV.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=env,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as running:
        os.close(terminal)
        written = b""
        try:
            while piece := os.read(controller, 65536):
                written += piece
        except OSError:  # how Linux says that the other side is closed
            pass
    os.close(controller)
    shown = Terminal(ROWS, COLUMNS, at_row=ROWS - 1)
    shown.feed(written.decode())
    return shown, running.returncode
