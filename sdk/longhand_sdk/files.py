"""The files that are sent: opened, read piece by piece, and wrapped into a form."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from longhand_sdk.errors import FileChanged
from longhand_sdk.flows import Block, Flow
from longhand_sdk.models import JobInfo

Audio = str | os.PathLike[str] | bytes | IO[bytes]
"""A path, or an http(s) URL that the server fetches; the file's bytes; or an open binary file, from
its present position on."""

PIECE_BYTES = 512 * 1024
SPOOL_BYTES = 8 * 1024 * 1024
"""A file that cannot be rewound is kept until it is sent: in memory up to here, then on disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload or a job is."""

    stage: str
    """``uploading``, then the server's: ``queued``, ``preparing``, ``transcribing``, ..."""
    percent: float | None
    """Of the stage, from 0 to 100; it never falls. None: not known."""
    sent_bytes: int = 0
    total_bytes: int = 0
    job: JobInfo | None = None
    """Once there is one."""


OnProgress = Callable[[Progress], object]


class AudioFile:
    """An open file of a fixed length; what is appended to it meanwhile is not sent."""

    def __init__(self, name: str, file: IO[bytes], on_progress: OnProgress | None) -> None:
        self.name = name
        self._file = file
        self._on_progress = on_progress
        self._start = file.tell()
        self.size_bytes = file.seek(0, os.SEEK_END) - self._start
        self._most_bytes = -1

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """Yield the file from an offset on.

        Raises:
            FileChanged: it has become shorter.
        """
        self._file.seek(self._start + offset)
        left = self.size_bytes - offset
        while left > 0:
            piece = self._file.read(min(PIECE_BYTES, left))
            if not piece:
                raise FileChanged("the file was cut off while it was being uploaded")
            left -= len(piece)
            yield piece

    def report(self, sent_bytes: int) -> None:
        """Tell how much has been sent, unless more had been before a retry."""
        sent_bytes = min(sent_bytes, self.size_bytes)
        if self._on_progress is not None and sent_bytes > self._most_bytes:
            self._most_bytes = sent_bytes
            percent = 100.0 * sent_bytes / self.size_bytes if self.size_bytes else 100.0
            self._on_progress(Progress("uploading", percent, sent_bytes, self.size_bytes))


def opened(stack: ExitStack, audio: Audio, on_progress: OnProgress | None) -> Flow[AudioFile]:
    """Open what is to be sent, until the end of ``stack``.

    Raises:
        OSError: it cannot be read.
    """
    file: IO[bytes]
    if isinstance(audio, bytes):
        file = BytesIO(audio)
    elif isinstance(audio, str | os.PathLike):
        file = stack.enter_context((yield Block(partial(Path(audio).open, "rb"))))
    else:
        file = audio
    name = getattr(file, "name", None)
    if not file.seekable():
        kept = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - as ``stack``
        stack.callback(kept.close)
        yield Block(partial(shutil.copyfileobj, file, kept, PIECE_BYTES))
        kept.seek(0)
        file = kept
    return AudioFile(Path(name).name if isinstance(name, str) else "audio", file, on_progress)


def url_of(audio: Audio) -> str | None:
    """Return the URL that the server is to fetch; None: the file is sent."""
    is_url = isinstance(audio, str) and audio.lower().startswith(("http://", "https://"))
    return str(audio) if is_url else None


class Form:
    """A multipart form: the fields, then the file; a ``flows.Body``."""

    def __init__(self, fields: Mapping[str, Any], file: AudioFile) -> None:
        """Make a form. Values that are no text become JSON."""
        boundary = uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            f"{value if isinstance(value, str) else json.dumps(value)}\r\n"
            for name, value in fields.items()
        ]
        name = file.name.encode("utf-8", "replace").decode()
        for character, escaped in (('"', "%22"), ("\r", "%0D"), ("\n", "%0A")):  # as browsers do
            name = name.replace(character, escaped)
        disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        parts.append(f"--{boundary}\r\n{disposition}\r\n\r\n")
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return len(self._head) + self._file.size_bytes + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """Begin anew, and yield it."""
        yield self._head
        yield from self._file.pieces()
        yield self._tail

    def report(self, sent_bytes: int) -> None:
        """Take note of how much has been sent this time."""
        self._file.report(max(0, sent_bytes - len(self._head)))


class Rest:
    """A file from an offset on; a ``flows.Body``."""

    content_type = "application/offset+octet-stream"

    def __init__(self, file: AudioFile, offset: int) -> None:
        self._file = file
        self._offset = offset

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self._file.size_bytes - self._offset

    def pieces(self) -> Iterator[bytes]:
        """Begin anew, and yield it."""
        return self._file.pieces(self._offset)

    def report(self, sent_bytes: int) -> None:
        """Take note of how much has been sent this time."""
        self._file.report(self._offset + sent_bytes)
