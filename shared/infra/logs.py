"""The log of every process: JSON for machines, or text for people, on standard error.

Lines hold what strangers send, such as paths and file names. So a line is one line whatever is in
it, messages are cut, and what looks like a secret is masked. Libraries log at INFO at most, because
their DEBUG lines have headers, bodies and statements' parameters.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from textwrap import indent
from typing import Any, TextIO

from shared.infra.settings import Settings
from shared.infra.tracing import current

MAX_MESSAGE_CHARS = 2_000
MAX_EXCEPTION_CHARS = 20_000
"""Longer texts are cut in the middle: a traceback begins and ends with what matters most."""

PACKAGES = ("api", "cli", "shared", "worker")
"""Loggers of ours, which alone log at DEBUG."""

_SECRET = re.compile(
    r"(?<=://)[^/\s@]+(?=@)"  # the login in a URL
    r"|(?<=\blh_live_)\w+"
    r"|(?<=\bwhsec_)[\w+/=-]+"
    r"|(?<=\beyJ)[\w-]+\.[\w-]+\.[\w-]+"  # a JSON Web Token
    r"|(?i:(?<=\bbearer )|(?<=\bbasic )|(?<=\btoken ))[\w.+/=-]{16,}"
)

Context = Callable[[], Mapping[str, object]]
"""Returns what is known now of the work that is under way."""

_context: ContextVar[Context | None] = ContextVar("log_context", default=None)


def configure(settings: Settings, service: str) -> None:
    """Log this process to standard error, in place of whatever was configured.

    ``service`` names the process in JSON. Warnings and exceptions that nobody caught are logged.
    """
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    handler = _StandardError()
    handler.setFormatter(JsonFormatter(service) if as_json else TextFormatter())
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    for name in PACKAGES:
        logging.getLogger(name).setLevel(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs with their queries
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_end_of_thread


def is_configured() -> bool:
    """Whether ``configure`` was called in this process, or in the one that has forked it."""
    return any(
        isinstance(handler.formatter, JsonFormatter | TextFormatter)
        for handler in logging.getLogger().handlers
    )


def bind(context: Context) -> None:
    """Have all lines of the current task, and of what it starts, say what ``context`` returns."""
    _context.set(context)


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Have the lines within the block say these fields."""
    token = _context.set(lambda: fields)
    try:
        yield
    finally:
        _context.reset(token)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error by then: a program may replace and close it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class JsonFormatter(logging.Formatter):
    """A line is a JSON object.

    ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``service``, ``pid``, ``message``; the fields
    of the context and of the record; ``trace_id`` and ``span_id``; ``exception``, a traceback.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "service": self._service,
            "pid": record.process,
            "message": clean(record.getMessage()),
            **_context_fields(),
            **_trace_fields(),
            **getattr(record, "fields", {}),
        }
        if trace := _trace(self, record):
            said["exception"] = trace
        return json.dumps(said, default=str)


class TextFormatter(logging.Formatter):
    """A line has the time, the level, the logger, the message and the context's fields.

    The lines of a traceback follow, indented, so that each line that begins with a time is a
    record. Fields of the record are left out, as the message says the same, and so is the span.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of a traceback."""
        line = (
            f"{_time(record)} {record.levelname} {record.name}: "
            f"{_one_line(clean(record.getMessage()))}"
        )
        fields = {**_context_fields(), **_trace_fields()}
        fields.pop("span_id", None)
        if fields:
            line += f" [{' '.join(f'{name}={_one_line(str(v))}' for name, v in fields.items())}]"
        if trace := _trace(self, record):
            lines = (_one_line(each) for each in trace.split("\n"))
            line += "\n" + indent("\n".join(lines), "    ", lambda _: True)
        return line


def clean(text: str, limit_chars: int = MAX_MESSAGE_CHARS) -> str:
    """Return the text with secrets masked, cut in the middle to about ``limit_chars``."""
    if len(text) > limit_chars:
        half = limit_chars // 2
        text = f"{text[:half]}[... {len(text) - 2 * half} characters ...]{text[-half:]}"
    return _SECRET.sub("***", text)


def _one_line(text: str) -> str:
    """Escape what is not printable, so that no newline forges a record and no escape is obeyed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    return clean(formatter.formatException(record.exc_info), MAX_EXCEPTION_CHARS)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _context_fields() -> Mapping[str, object]:
    context = _context.get()
    return {} if context is None else context()


def _trace_fields() -> Mapping[str, object]:
    """Return which span the line belongs to, by OpenTelemetry's names."""
    context = current().context
    return {} if context is None else {"trace_id": context.trace_id, "span_id": context.span_id}


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("unexpected error", exc_info=(kind, error, trace))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    error = ended.exc_value
    if error is not None and not isinstance(error, SystemExit):
        name = "" if ended.thread is None else ended.thread.name
        logging.getLogger(__name__).critical(
            "the thread %s ended with an unexpected error", name, exc_info=error
        )
