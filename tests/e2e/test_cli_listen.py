"""``longhand listen`` against a peer of the protocol: what it prints, how it ends, how it fails."""

import os
import pty
import signal
import subprocess
import time
import wave
from contextlib import suppress
from pathlib import Path

import pytest

from harness.peers.stt_peer import SttPeer, spoken, stt_peer
from harness.programs.command_line import COMMAND, ENV, longhand, running_on, write_words
from harness.programs.workers import wait_until


def write(path: Path, pcm: bytes) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(pcm)
    return path


def server_of(peer: SttPeer) -> str:
    return peer.url.replace("ws://", "http://").removesuffix("/ws/stt")


def listen(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return longhand("listen", *arguments, **variables)


def running(peer: SttPeer, **streams: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "listen", "-", "--server", server_of(peer)],
        env=ENV,
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        | streams,
    )


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("longhand: error: ")
    return line.removeprefix("longhand: error: ")


def test_each_utterance_of_a_file_is_a_line_and_the_file_is_heard_at_its_pace(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.wav", spoken(1, 2) + spoken(3))
    with stt_peer() as peer:
        started_s = time.monotonic()
        done = listen(path, "--server", server_of(peer), "--language", "english", "--model", "m")
        took_s = time.monotonic() - started_s
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 2\n3\n", "")
    assert took_s > 1.3  # of 1.42 s of audio
    (start,) = peer.started
    assert start["config"] == {"model": "m", "lang_code": "en", "sample_rate": 16_000}
    assert peer.controls == ["flush", "end_session"]


def test_raw_audio_on_standard_input_is_heard_to_its_end() -> None:
    with stt_peer() as peer, running(peer) as process:
        stdout, stderr = process.communicate(spoken(4, 5) + spoken(6, silence_ms=0), timeout=100)
    assert (process.returncode, stdout, stderr) == (0, b"4 5\n6\n", b"")


def test_ctrl_c_ends_the_session_and_prints_the_last_final() -> None:
    with stt_peer() as peer, running(peer) as process:
        assert process.stdin is not None
        process.stdin.write(spoken(7, 8, silence_ms=0))
        process.stdin.flush()
        wait_until(lambda: peer.heard_s > 0.27)
        process.send_signal(signal.SIGINT)
        process.wait(100)  # its standard input stays open
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (130, b"7 8\n", b"")
    assert peer.controls == ["flush", "end_session"]


def test_a_terminal_shows_what_is_being_said_in_one_line_that_the_final_replaces() -> None:
    ours, theirs = pty.openpty()
    with stt_peer() as peer, running(peer, stderr=theirs) as process:
        os.close(theirs)
        stdout, _ = process.communicate(spoken(1, 2), timeout=100)
        shown = b""
        with suppress(OSError):  # the terminal's other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
    assert stdout == b"1 2\n"
    erased = b"\r\x1b[K"
    assert erased + b"1" + erased + b"1 2" + erased in shown
    assert shown.endswith(erased)
    assert b"\n" not in shown.partition(erased)[2]


@pytest.mark.parametrize("code", ["QUEUE_CONGESTION", "INVALID_MESSAGE"])
def test_a_refusal_is_one_line(tmp_path: Path, code: str) -> None:
    with stt_peer(refuse=[code]) as peer:
        path = write(tmp_path / "a.wav", spoken(1))
        assert the_error(listen(path, "--server", server_of(peer))) == f"no: {code}"


def test_a_lost_connection_is_one_line_and_what_was_said_before_is_printed(tmp_path: Path) -> None:
    with stt_peer(cut_at_s=[0.8]) as peer:
        path = write(tmp_path / "a.wav", spoken(1) + spoken(2))
        done = listen(path, "--server", server_of(peer))
    assert done.stdout == "1\n"
    assert the_error(done) == f"the connection to {peer.url} was lost"


def test_a_session_goes_on_after_a_lost_connection_without_losing_a_word(tmp_path: Path) -> None:
    with stt_peer(cut_at_s=[0.8, 0.2], refuse=["", "QUEUE_CONGESTION"], resumes=True) as peer:
        path = write(tmp_path / "a.wav", spoken(1) + spoken(2, 3) + spoken(4))
        done = listen(path, "--server", server_of(peer))
    assert (done.returncode, done.stdout) == (0, "1\n2 3\n4\n")
    lost = f"longhand: warning: the connection to {peer.url} was lost; the session goes on\n"
    assert done.stderr == 2 * lost
    (first, *others) = peer.started
    assert len(others) == 3
    assert {start.get("resume_token") for start in others} == {first["session_id"]}


def test_a_session_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with stt_peer(cut_at_s=[0.8], refuse=["", "SESSION_NOT_FOUND"], resumes=True) as peer:
        path = write(tmp_path / "a.wav", spoken(1) + spoken(2))
        done = listen(path, "--server", server_of(peer))
    assert (done.returncode, done.stdout) == (1, "1\n")
    assert done.stderr.splitlines()[-1] == "longhand: error: no: SESSION_NOT_FOUND"


def test_speech_that_is_not_transcribed_is_told_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with stt_peer(fail=["INFERENCE_ERROR"]) as peer:
        path = write(tmp_path / "a.wav", spoken(1) + spoken(2))
        done = listen(path, "--server", server_of(peer))
    assert (done.returncode, done.stdout) == (1, "2\n")
    assert done.stderr.splitlines() == [
        "longhand: warning: something said was not transcribed: no: INFERENCE_ERROR",
        "longhand: error: the text is not whole",
    ]


def test_a_server_that_is_late_is_told(tmp_path: Path) -> None:
    with stt_peer(fail=["QUEUE_FULL"]) as peer:
        path = write(tmp_path / "a.wav", spoken(1) + spoken(2))
        done = listen(path, "--server", server_of(peer))
    assert (done.returncode, done.stdout) == (0, "2\n")
    assert done.stderr == "longhand: warning: the server is late: no: QUEUE_FULL\n"


def test_what_cannot_be_heard_is_one_line(tmp_path: Path) -> None:
    other = tmp_path / "a.mp3"
    other.write_bytes(b"ID3")
    there = ("--server", "http://127.0.0.1:9")
    assert the_error(listen(tmp_path / "none.wav", *there)).startswith("No such file")
    assert "'longhand transcribe' takes any" in the_error(listen(other, *there))
    assert the_error(listen(tmp_path, *there)).startswith("Is a directory")


def test_what_is_no_live_server_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", spoken(1))
    gone = "cannot reach ws://127.0.0.1:9/ws/stt: Connection refused"
    assert the_error(listen(path, "--server", "http://127.0.0.1:9")) == gone
    wrong = "'127.0.0.1:9' is not a server's address: expected http://HOST:PORT"
    assert the_error(listen(path, "--server", "127.0.0.1:9")) == wrong


def test_without_a_server_it_starts_a_platform_and_stops_it_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    path = write_words(tmp_path / "words.wav", [1, 2, 3])
    done = listen(path, "--model", "oracle", "--data", data)
    assert (done.returncode, done.stdout) == (0, "w00001 w00002 w00003\n"), done.stderr
    assert not running_on(data)
