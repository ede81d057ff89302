"""A transcript as a Word document (Office Open XML, ECMA-376): the few parts that Word needs.

A paragraph of the transcript is a heading with its time and who speaks, and its text. The archive
is made as it is sent, so memory does not grow with the transcript. Equal transcripts give equal
files.
"""

import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from shared.speech.files.cues import one_line
from shared.speech.speakers.names import TalkerNames
from shared.speech.transcript.paragraphs import make_paragraphs
from shared.speech.transcript.transcript import Header, Paragraph, Segment

_BLOCK_BYTES = 1 << 16
"""Least size of a block, except for the last one."""

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_OFFICE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'

_PARTS = {
    "[Content_Types].xml": f"""{_HEAD}<Types xmlns="{_PACKAGE}/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/>
<Override PartName="/word/document.xml" ContentType="{_OFFICE}.document.main+xml"/>
<Override PartName="/word/styles.xml" ContentType="{_OFFICE}.styles+xml"/>
</Types>""",
    "_rels/.rels": f"""{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">
<Relationship Id="rId1" Type="{_RELATIONS}/officeDocument" Target="word/document.xml"/>
</Relationships>""",
    "word/_rels/document.xml.rels": f"""{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">
<Relationship Id="rId1" Type="{_RELATIONS}/styles" Target="styles.xml"/>
</Relationships>""",
    "word/styles.xml": f"""{_HEAD}<w:styles {_WORD}>
<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/>
<w:pPr><w:spacing w:after="160" w:line="276" w:lineRule="auto"/></w:pPr>
<w:rPr><w:sz w:val="22"/><w:szCs w:val="22"/></w:rPr></w:style>
<w:style w:type="paragraph" w:styleId="Heading2"><w:name w:val="heading 2"/>
<w:basedOn w:val="Normal"/><w:next w:val="Normal"/>
<w:pPr><w:keepNext/><w:spacing w:before="120" w:after="0"/><w:outlineLvl w:val="1"/></w:pPr>
<w:rPr><w:color w:val="6B6B6B"/><w:sz w:val="18"/><w:szCs w:val="18"/></w:rPr></w:style>
</w:styles>""",
}
_DOCUMENT = "word/document.xml"

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_docx(header: Header, segments: Iterable[Segment]) -> Iterator[bytes]:
    """Yield the file, in blocks of at least ``_BLOCK_BYTES``."""
    names = TalkerNames(header)
    sink = _Sink()
    with ZipFile(sink, "w") as archive:
        for name, content in _PARTS.items():
            archive.writestr(_entry(name), content)
        with archive.open(_entry(_DOCUMENT), "w") as document:
            document.write(f"{_HEAD}<w:document {_WORD}><w:body>\n".encode())
            for paragraph in make_paragraphs(segments):
                document.write(_written(paragraph, names.of(paragraph)).encode())
                if len(sink.written) >= _BLOCK_BYTES:
                    yield sink.take()
            document.write(b"</w:body></w:document>")
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that cannot be sought in, and keeps what is written until it is taken."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        self.written += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self.written)
        self.written.clear()
        return taken


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name)  # dated 1980, not now
    entry.compress_type = ZIP_DEFLATED
    return entry


def _written(paragraph: Paragraph, talker: str) -> str:
    s = int(paragraph.start)
    time = f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}"
    heading = f"{time} – {_escaped(talker)}" if talker else time  # noqa: RUF001
    text = _escaped(one_line(paragraph.text))
    of_paragraph, of_run = ("<w:pPr><w:bidi/></w:pPr>", "<w:rPr><w:rtl/></w:rPr>")
    if not _runs_leftwards(text):
        of_paragraph = of_run = ""
    return (
        f'<w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>{heading}</w:t></w:r></w:p>\n'
        f'<w:p>{of_paragraph}<w:r>{of_run}<w:t xml:space="preserve">{text}</w:t></w:r></w:p>\n'
    )


def _escaped(text: str) -> str:
    return escape(_NOT_IN_XML.sub("", text))


def _runs_leftwards(text: str) -> bool:
    """Whether the first letter with a direction is of a script written from right to left."""
    kinds = map(unicodedata.bidirectional, text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"
