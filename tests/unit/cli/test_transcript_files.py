"""Which files are taken from what was named, where their transcripts go, and that each is whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.transcribe.sources import Folder, Found, find_sources, is_url
from cli.transcribe.transcript_files import TranscriptFiles, make_output_folder


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def find(*names: str) -> Found:
    return find_sources([name if is_url(name) else Path(name) for name in names])


def places(*names: str, form: str = "srt") -> dict[str, str]:
    """Name -> where its transcript goes below the folder."""
    sources = find(*names).sources
    outputs = TranscriptFiles(Path("out"), [form], sources)
    return {s.name: str(outputs.path(s, form).relative_to("out")) for s in sources}


def test_folder_gives_its_audio_and_video_files_in_order_without_hidden_ones() -> None:
    make("rec/b.MP3", "rec/a/z.mkv", "rec/a.wav", "rec/notes.txt", "rec/.c.wav", "rec/.d/e.wav")
    found = find("rec")
    assert [source.name for source in found.sources] == ["rec/a.wav", "rec/b.MP3", "rec/a/z.mkv"]
    assert found.folders == [Folder(Path("rec"), 3, left_out=[Path("notes.txt")])]
    assert found.refused == []


def test_links_in_a_circle_end() -> None:
    make("rec/a/one.wav")
    Path("rec/a/up").symlink_to("..")
    Path("rec/self").symlink_to(".")
    assert [source.name for source in find("rec").sources] == ["rec/a/one.wav"]


def test_file_named_twice_is_done_once() -> None:
    make("rec/a.wav")
    assert len(find("rec/a.wav", "rec", "./rec/a.wav").sources) == 1


def test_url_of_another_scheme_is_refused_with_what_to_do() -> None:
    assert find("s3://bucket/a.wav").refused == [
        "s3://bucket/a.wav: only http and https URLs are fetched: download the file, then name it"
    ]


def test_url_is_left_to_the_platform_and_named_without_its_secrets() -> None:
    url = "https://user:hush@example.com:8443//rec/a%20talk.mp3?sig=hush"
    (source,) = find(url, url).sources
    assert source.url == url
    assert source.name == "https://example.com:8443//rec/a%20talk.mp3"
    assert places(url) == {source.name: "a talk.srt"}


def test_urls_of_one_name_go_below_what_tells_them_apart() -> None:
    make("a/talk.mp3")
    names = ("https://one.example/talk.mp3", "https://two.example/talk.mp3", "a/talk.mp3")
    assert places(*names) == {
        "https://one.example/talk.mp3": "one.example/talk.mp3.srt",
        "https://two.example/talk.mp3": "two.example/talk.mp3.srt",
        "a/talk.mp3": "a/talk.mp3.srt",
    }
    queries = ("https://one.example/get?id=1", "https://one.example/get?id=2")
    outputs = TranscriptFiles(Path("out"), ["srt"], sources := find(*queries).sources)
    assert len({outputs.path(source, "srt") for source in sources}) == 2


@pytest.mark.parametrize("url", ["https://example.com", "http://example.com/..", "http://h/%2F"])
def test_url_without_a_name_has_one_all_the_same(url: str) -> None:
    (place,) = places(url).values()
    assert place in ("example.srt", "_.srt")


def test_transcript_has_the_name_of_its_file() -> None:
    make("a/talk.wav")
    assert places("a/talk.wav") == {"a/talk.wav": "talk.srt"}


def test_files_of_one_stem_keep_their_extensions_in_any_order() -> None:
    make("a/talk.wav", "b/talk.flac", "b/other.flac")
    names = ("a/talk.wav", "b/talk.flac", "b/other.flac")
    expected = {
        "a/talk.wav": "talk.wav.srt",
        "b/talk.flac": "talk.flac.srt",
        "b/other.flac": "other.srt",
    }
    assert places(*names) == expected
    assert places(*reversed(names)) == expected


def test_files_of_one_name_are_put_below_the_folders_that_tell_them_apart() -> None:
    make("x/a/talk.wav", "x/b/talk.wav")
    assert places("x/a/talk.wav", "x/b/talk.wav") == {
        "x/a/talk.wav": "a/talk.wav.srt",
        "x/b/talk.wav": "b/talk.wav.srt",
    }


def test_folder_keeps_its_structure() -> None:
    make("rec/mon/talk.wav", "rec/tue/talk.wav", "rec/tue/talk.mp3")
    assert places("rec") == {
        "rec/mon/talk.wav": "mon/talk.srt",
        "rec/tue/talk.mp3": "tue/talk.mp3.srt",
        "rec/tue/talk.wav": "tue/talk.wav.srt",
    }


def test_names_that_differ_in_case_or_accents_form_only_are_told_apart() -> None:
    make("Talk.wav", "talk.mp3", "\u00e9t\u00e9.wav", "e\u0301te\u0301.mp3")
    found = places("Talk.wav", "talk.mp3", "\u00e9t\u00e9.wav", "e\u0301te\u0301.mp3")
    assert sorted(found.values()) == sorted(f"{name}.srt" for name in found)


def test_transcript_never_replaces_a_file_to_transcribe() -> None:
    make("out/talk.txt")
    source = find("out/talk.txt").sources[0]
    outputs = TranscriptFiles(Path("out"), ["txt"], [source])
    outputs.write(source, "txt", b"words")
    assert Path("out/talk.txt").read_text() == "x"
    assert Path("out/talk.txt.txt").read_text() == "words"


def one_source(name: str = "talk.wav") -> tuple[TranscriptFiles, Path]:
    make(name)
    return TranscriptFiles(Path("out"), ["txt", "srt"], find(name).sources), Path("out")


def test_only_what_is_there_in_every_format_is_there() -> None:
    outputs, folder = one_source()
    source = find("talk.wav").sources[0]
    assert not outputs.has(source)
    outputs.write(source, "txt", b"")
    assert not outputs.has(source)
    outputs.write_partial(source, "srt", b"half")
    assert not outputs.has(source)
    outputs.write(source, "srt", b"whole")
    assert outputs.has(source)
    assert {path.name for path in folder.iterdir()} == {"talk.txt", "talk.srt"}


def test_whole_transcript_replaces_and_removes_the_partial_one() -> None:
    outputs, folder = one_source()
    source = find("talk.wav").sources[0]
    assert outputs.write_partial(source, "txt", b"half") == folder / "talk.txt.partial"
    assert (folder / "talk.txt.partial").read_text() == "half"
    outputs.write(source, "txt", b"whole")
    assert [path.name for path in folder.iterdir()] == ["talk.txt"]


def test_transcripts_are_as_readable_as_any_file_of_their_owner() -> None:
    outputs, folder = one_source()
    outputs.write(find("talk.wav").sources[0], "txt", b"words")
    make("other.txt")
    assert (folder / "talk.txt").stat().st_mode == Path("other.txt").stat().st_mode


def test_place_that_is_taken_by_a_folder_is_told_and_nothing_is_left() -> None:
    outputs, folder = one_source()
    (folder / "talk.txt").mkdir(parents=True)
    with pytest.raises(CommandError, match=r"cannot write out/talk\.txt: Is a directory"):
        outputs.write(find("talk.wav").sources[0], "txt", b"words")
    assert [path.name for path in folder.iterdir()] == ["talk.txt"]


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small tmpfs")
def test_full_disk_leaves_the_old_transcript_and_nothing_by_half() -> None:
    outputs, folder = one_source()
    source = find("talk.wav").sources[0]
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "longhand-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        make_output_folder(folder)
        outputs.write(source, "txt", b"old")
        with pytest.raises(CommandError, match=r"cannot write out/talk\.txt: No space left"):
            outputs.write(source, "txt", b"words " * 100_000)
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"talk.txt": "old"}
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a tmpfs")
def test_name_that_the_file_system_cannot_have_is_told_before_anything_is_written() -> None:
    fits, too_long = "a" * 250 + ".wav", "b" * 251 + ".wav"
    make(fits, too_long)
    sources = find(fits, too_long).sources
    outputs = TranscriptFiles(Path("new/out"), ["txt", "json"], sources)
    Path("out").mkdir()
    there = TranscriptFiles(Path("out"), ["txt", "json"], sources)

    there.check(sources[0])
    with pytest.raises(CommandError, match=r"cannot write out/b+\.json: File name too long"):
        there.check(sources[1])
    outputs.check(sources[0])  # folders that are not there yet are no problem


def test_read_only_folder_is_told_before_anything_is_transcribed() -> None:
    Path("out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "longhand-test", "out"]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(CommandError, match="transcripts into out: Read-only file system"):
            make_output_folder(Path("out"))
    finally:
        subprocess.run(["umount", "out"], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_folder_without_permission_is_told_before_anything_is_transcribed() -> None:
    Path("out").mkdir(mode=0o555)
    with pytest.raises(CommandError, match="transcripts into out: Permission denied"):
        make_output_folder(Path("out"))
