"""Transcripts as tests look at them: whole."""

import io
from uuid import UUID
from xml.etree import ElementTree
from zipfile import ZipFile

from sqlalchemy import Engine

from shared.speech.files.formats import Rendered
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Transcript, join_segments
from shared.store.transcripts import open_transcript


def get_transcript(engine: Engine, tenant: str, job_id: UUID) -> Transcript:
    """Return the whole transcript of a job that succeeded; as ``open_transcript``."""
    stored = open_transcript(engine, tenant, job_id)
    segments = list(stored.segments)
    running_text = "".join(join_segments(segments))
    paragraphs = list(make_paragraphs(segments))
    return Transcript(
        **dict(stored.header), text=running_text, paragraphs=paragraphs, segments=segments
    )


def contents(rendered: Rendered) -> bytes:
    """Return the whole file."""
    return b"".join(
        block.encode() if isinstance(block, str) else block for block in rendered.blocks
    )


WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def docx_paragraphs(document: bytes) -> list[str]:
    """Return the paragraphs of a Word document as text."""
    with ZipFile(io.BytesIO(document)) as archive:
        assert archive.testzip() is None
        root = ElementTree.fromstring(archive.read("word/document.xml"))
    return ["".join(each.itertext()) for each in root.iter(f"{WORD}p")]
