"""The form parser, fed whole bodies and single bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.intake.multipart import (
    MAX_FIELD_BYTES,
    MAX_PARTS,
    Event,
    Field,
    FileBegin,
    FileData,
    FormParser,
)
from shared.infra.errors import InvalidRequest, UnsupportedMediaType

FORM = "multipart/form-data; boundary=b"


def part(name: str, value: bytes, extra: str = "") -> bytes:
    """A part; that of the file has a file's name, as each client gives it one."""
    if name == "file" and not extra:
        extra = '; filename="a.wav"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def parse(body: bytes, step: int | None = None) -> list[Event]:
    parser = FormParser(FORM)
    step = step or len(body)
    events = [
        event for at in range(0, len(body), step) for event in parser.feed(body[at : at + step])
    ]
    parser.finish()
    return events


def content(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, FileData))


@given(
    data=st.lists(st.sampled_from([b"\r\n--b", b"\r\n", b"-", b"--b--", b"audio", b"\0"])).map(
        lambda pieces: b"".join(pieces).replace(b"\r\n--b", b"\r\n--c") + b"x"
    ),
    step=st.integers(1, 40),
    file_first=st.booleans(),
)
def test_a_body_parses_alike_however_it_is_cut(data: bytes, step: int, file_first: bool) -> None:
    file, field = part("file", data, '; filename="a.wav"'), part("model", b"tiny")
    body = (file + field if file_first else field + file) + b"--b--\r\n"

    events = parse(body, step)

    assert content(events) == data
    assert [event for event in events if isinstance(event, Field)] == [Field("model", "tiny")]
    assert FileBegin("a.wav") in events


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("C:\\\\music\\\\a.mp3", "a.mp3"),
        ("../../etc/passwd", "passwd"),
        ("naïve ü 日本.wav", "naïve ü 日本.wav"),
        ("a\0\x1b[31mb.wav", "a[31mb.wav"),
        ("", "audio"),
        ("dir/", "audio"),
        ("x" * 300 + ".wav", "x" * 251 + ".wav"),
        ("say %22hi%22.wav", 'say "hi".wav'),
        ("two%0D%0Alines.wav", "twolines.wav"),
        ("100%25 %2e%41.wav", "100%25 %2e%41.wav"),  # browsers encode nothing else
    ],
)
def test_a_file_name_is_kept_without_path_and_control_characters(sent: str, kept: str) -> None:
    events = parse(part("file", b"x", f'; filename="{sent}"') + b"--b--")
    assert events[0] == FileBegin(kept)


@pytest.mark.parametrize(
    "body",
    [
        part("file", b"x"),
        part("file", b"x") + b"--",
        part("model", b"tiny") + b"--b--",
        part("file", b"x") + part("file", b"y") + b"--b--",
        part("model", b"x" * (MAX_FIELD_BYTES + 1)) + part("file", b"x") + b"--b--",
        part("model", b"\xff\xfe") + part("file", b"x") + b"--b--",
        part("model", b"x") * (MAX_PARTS + 1) + b"--b--",
        b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--",
        b"--b\r\nno colon\r\n\r\nx\r\n--b--",
        b"--other\r\n",
        b"",
    ],
    ids=[
        "unterminated",
        "half a closing boundary",
        "no file",
        "two files",
        "long field",
        "field not UTF-8",
        "many parts",
        "part without a name",
        "broken part header",
        "another boundary",
        "nothing",
    ],
)
def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(body, step=7)


def test_a_long_field_has_a_limit_of_its_own() -> None:
    def parse_long(n_bytes: int) -> list[Event]:
        parser = FormParser(FORM, long_fields={"reference": 10_000})
        return parser.feed(part("reference", b"x" * n_bytes) + b"--b--")

    assert parse_long(10_000) == [Field("reference", "x" * 10_000)]
    with pytest.raises(InvalidRequest, match=r"9\.8 KiB"):
        parse_long(10_001)


def refusal(body: bytes, **given: Any) -> str:
    """Why the parser refuses a body; the closing boundary is not needed to know."""
    with pytest.raises(InvalidRequest) as refused:
        FormParser(FORM, **given).feed(body)
    return str(refused.value)


AUDIO = '; filename="x.wav"\r\nContent-Type: audio/wav'


def test_a_file_under_another_name_is_told_the_right_one_before_it_is_sent() -> None:
    assert refusal(part("audio", b"", AUDIO)[:-2]) == (
        "the form has a file as 'audio': send it as 'file', as curl -F file=@talk.mp3 URL does"
    )


def test_a_text_where_the_file_belongs_is_asked_for_the_at_sign() -> None:
    assert refusal(part("file", b"x.wav", " ")) == (
        "the field 'file' is a text and not a file: did you forget the @, as in "
        "curl -F file=@talk.mp3 URL?"
    )


@pytest.mark.parametrize("second", ["file", "file2"])
def test_a_second_file_is_refused_whatever_its_name(second: str) -> None:
    message = refusal(part("file", b"x") + part(second, b"y", AUDIO))
    assert message == (
        f"the form has more than one file, the second as '{second}': submit one job for each"
    )


def test_the_text_of_a_field_may_come_from_a_file() -> None:
    parser = FormParser(FORM, texts={"reference"})
    sent = part("reference", b"what was said", '; filename="said.txt"')
    assert parser.feed(sent + b"--b--") == [Field("reference", "what was said")]


@pytest.mark.parametrize(
    "extra",
    [
        "\r\nContent-Type: application/octet-stream",
        "; filename*=utf-8''a%20b.wav",
        ";FILENAME=a.wav",
        '; filename=""',
    ],
    ids=["a type alone", "an extended name", "unusual writing", "an empty name"],
)
def test_a_file_is_known_by_its_name_or_its_type(extra: str) -> None:
    assert content(parse(part("file", b"x", extra) + b"--b--")) == b"x"


@pytest.mark.parametrize(
    ("extra", "kept"),
    [
        ("; filename*=UTF-8''na%C3%AFve%20%e4%bd%a0.mp3", "naïve 你.mp3"),
        ("; FileName*=utf-8'en'a.mp3; x=y", "a.mp3"),
        ("; filename*=iso-8859-1''%fcber.mp3", "über.mp3"),
        ("; filename*=\"UTF-8''a%2Fb.mp3\"", "b.mp3"),
        ("; filename*=nonsense''a%ff.mp3", "a�.mp3"),
        ("; filename*=UTF-8''", "audio"),
        ("; filename*=idna''a.mp3", "a.mp3"),
        ("; filename*=undefined''a.mp3", "a.mp3"),
        ("; filename*=broken", "audio"),
        ("; filename=\"plain.mp3\"; filename*=UTF-8''other.mp3", "plain.mp3"),
        (";FILENAME=a.wav", "a.wav"),
    ],
)
def test_a_file_name_in_the_extended_form_is_decoded_where_there_is_no_other(
    extra: str, kept: str
) -> None:
    assert parse(part("file", b"x", extra) + b"--b--")[0] == FileBegin(kept)


def test_a_fields_name_is_decoded_as_browsers_encode_it() -> None:
    assert FormParser(FORM).feed(part("a%22%0d%0Ab%41", b"x") + b"--b--") == [
        Field('a"\r\nb%41', "x")
    ]


@pytest.mark.parametrize("name", ["audio_file", "audio", "files[]"])
@pytest.mark.parametrize(
    ("extra", "data"),
    [
        ("; filename*=UTF-8''a.mp3", b""),
        ("\r\nContent-Type: audio/mpeg", b""),
        ("\r\nContent-Type: application/octet-stream", b""),
        ("", b"x" * (MAX_FIELD_BYTES + 1)),
        ("", b"\xff\xfb\x90"),
    ],
    ids=["a name", "a type", "any type", "too long for a field", "no text"],
)
def test_a_file_that_is_no_file_part_is_told_to_come_as_file(
    name: str, extra: str, data: bytes
) -> None:
    message = refusal(part(name, data, extra) + b"--b--", texts={"reference"})

    assert f"'{name}'" in message
    assert message.endswith("send it as 'file', as curl -F file=@talk.mp3 URL does")


def test_a_known_field_that_is_too_long_is_not_taken_for_the_file() -> None:
    message = refusal(part("model", b"x" * (MAX_FIELD_BYTES + 1)) + b"--b--", texts={"model"})
    assert message == "the field 'model' is longer than 4 KiB"


def test_a_field_that_is_named_like_the_file_name_parameter_is_a_field() -> None:
    events = FormParser(FORM).feed(part("filename", b"x") + b"--b--")
    assert events == [Field("filename", "x")]


@pytest.mark.parametrize(
    ("content_type", "called"),
    [
        *((None, "of no type"), ("", "of no type"), ("audio/wav", "audio/wav")),
        ("application/json; charset=utf-8", "application/json"),
    ],
)
def test_another_content_type_is_told_what_to_send(content_type: str | None, called: str) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        FormParser(content_type)
    assert str(refused.value) == (
        "send the audio as multipart/form-data in a part named 'file', as "
        f"curl -F file=@talk.mp3 URL does; this body is {called}"
    )


@pytest.mark.parametrize("parameter", ["", "; boundary=", f"; boundary={'b' * 1000}"])
def test_a_missing_or_huge_boundary_is_refused(parameter: str) -> None:
    with pytest.raises(InvalidRequest):
        FormParser("multipart/form-data" + parameter)
