"""Lines of the log."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from shared.infra import logs
from shared.infra.settings import Settings

FORGED = "GET /a\n2026-11-27T06:00:00.000+00:00 INFO api: all is well\x1b[2J"
SECRETS = (
    "redis://:{}@127.0.0.1:6379/0",
    "postgresql+psycopg://longhand:{}@db/longhand",
    "http://key:{}@127.0.0.1:9000/longhand",
    "lh_live_{} was revoked",
    "whsec_{}",
    "Authorization: Bearer {}",
    "eyJ{0}.{0}.{0}",
)
SECRET = "c3VwZXJzZWNyZXR0b2tlbg"


@pytest.fixture(params=["json", "text"])
def formatter(request: pytest.FixtureRequest) -> logging.Formatter:
    return logs.JsonFormatter("api") if request.param == "json" else logs.TextFormatter()


def record(message: str, *arguments: object, error: Exception | None = None) -> logging.LogRecord:
    caught = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("api.x", logging.INFO, "x.py", 1, message, arguments, caught)


def test_a_message_with_newlines_and_escapes_is_one_printable_line(
    formatter: logging.Formatter,
) -> None:
    line = formatter.format(record("%s", FORGED))
    assert line.isprintable()
    assert "all is well" in line


def test_no_line_of_a_traceback_looks_like_a_record() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        text = logs.TextFormatter().format(record("failed", error=error))
    first, *others = text.split("\n")
    assert first.endswith("INFO api.x: failed")
    assert len(others) > 3
    assert all(line.startswith("    ") and line.isprintable() for line in others)


@pytest.mark.parametrize("text", SECRETS)
def test_what_looks_like_a_secret_is_masked(formatter: logging.Formatter, text: str) -> None:
    said = text.format(SECRET)
    line = formatter.format(record("connecting to %s", said, error=OSError(said)))
    assert SECRET not in line
    assert line.count("***") == 2


def test_a_long_message_keeps_its_beginning_and_its_end(formatter: logging.Formatter) -> None:
    line = formatter.format(record("begin %s end", "x" * 60_000))
    assert len(line) < logs.MAX_MESSAGE_CHARS + 300
    assert "begin xxx" in line
    assert "xxx end" in line


def test_a_line_of_json_has_the_fields_of_its_context_and_its_own() -> None:
    one = record("done in %d s", 3)
    one.fields = {"status": 200}
    with logs.bound(request_id="abc", tenant="acme"):
        said = json.loads(logs.JsonFormatter("api").format(one))
    assert said.pop("time").endswith("+00:00")
    assert said.pop("pid")
    assert said == {
        "level": "INFO",
        "logger": "api.x",
        "service": "api",
        "message": "done in 3 s",
        "request_id": "abc",
        "tenant": "acme",
        "status": 200,
    }
    assert "request_id" not in logs.JsonFormatter("api").format(one)


def test_a_line_of_text_has_the_fields_of_its_context() -> None:
    with logs.bound(request_id="abc", tenant="a\nb"):
        line = logs.TextFormatter().format(record("done"))
    assert line.endswith(r" INFO api.x: done [request_id=abc tenant=a\nb]")


@pytest.fixture
def restored() -> Iterator[None]:
    """Take back what ``configure`` does to the process."""
    root, hooks = logging.getLogger(), (sys.excepthook, logs.threading.excepthook)
    handlers, level = root.handlers[:], root.level
    yield
    sys.excepthook, logs.threading.excepthook = hooks
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    for name in (*logs.PACKAGES, "httpx"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("chosen", "on_terminal", "kind"),
    [
        ("auto", True, logs.TextFormatter),
        ("auto", False, logs.JsonFormatter),
        ("json", True, logs.JsonFormatter),
        ("text", False, logs.TextFormatter),
    ],
)
def test_lines_are_json_unless_somebody_reads_them(
    chosen: str, on_terminal: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal, raising=False)
    logs.configure(Settings(log_format=chosen), "api")  # type: ignore[arg-type]
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler.formatter, kind)


@pytest.mark.usefixtures("restored")
def test_libraries_do_not_log_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    """Their debug lines have headers, bodies and parameters."""
    logs.configure(Settings(log_level="debug"), "api")
    for name in ("botocore.auth", "httpcore", "python_multipart", "shared.store"):
        logging.getLogger(name).debug("%s says something", name)
    logging.getLogger("httpx").info("HTTP Request: GET http://host/?token=secret")
    assert [json.loads(line)["logger"] for line in capsys.readouterr().err.splitlines()] == [
        "shared.store"
    ]


@pytest.mark.usefixtures("restored")
def test_a_line_goes_to_what_is_standard_error_when_it_is_logged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed, current = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", closed)
    logs.configure(Settings(), "api")
    closed.close()
    monkeypatch.setattr(sys, "stderr", current)
    logging.getLogger("api").warning("here")
    (line,) = current.getvalue().splitlines()
    assert json.loads(line)["message"] == "here"


@pytest.mark.usefixtures("restored")
def test_an_exception_that_nobody_caught_is_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(), "api")
    thread = logs.threading.Thread(target=lambda: 1 / 0, name="worker-7")
    thread.start()
    thread.join()
    said = json.loads(capsys.readouterr().err)
    assert said["level"] == "CRITICAL"
    assert "worker-7" in said["message"]
    assert said["exception"].endswith("ZeroDivisionError: division by zero")
