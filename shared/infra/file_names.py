"""File names that others send: read from headers and URLs, and cleaned; shown, and never opened."""

import re
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from python_multipart.multipart import parse_options_header

_MOST_CHARS = 255
"""Characters of a name that are kept; the longest name of common file systems."""

NAMELESS = "audio"
"""The name of a file that has none."""

_EXTENDED = re.compile(rb""";\s*filename\*\s*=\s*"?([\w.-]+)'[^']*'([^;"\s]*)""", re.IGNORECASE)
"""Charset and percent-encoded name (RFC 8187), which the library leaves out."""
_BROWSER_ESCAPES = re.compile(rb"%(0D|0A|22)", re.IGNORECASE)
"""The bytes of names that browsers encode, and no others (WHATWG HTML, multipart/form-data)."""


def form_file_name(disposition: bytes) -> str:
    """Return the name in the Content-Disposition of a form's part, cleaned.

    RFC 7578 forbids the extended form, and some clients send nothing else. Where both are sent, the
    plain one counts.
    """
    _, parameters = parse_options_header(disposition)
    if b"filename" not in parameters and (extended := _extended(disposition)) is not None:
        return clean_file_name(extended)
    plain = unescape(parameters.get(b"filename", b""))
    return clean_file_name(plain.decode(errors="replace"))


def header_file_name(disposition: str) -> str | None:
    """Return the name in a message's Content-Disposition (RFC 6266), cleaned; None: it has none.

    Where both forms are sent, the extended one counts.
    """
    sent = disposition.encode("latin-1", errors="replace")
    if (extended := _extended(sent)) is not None:
        return clean_file_name(extended)
    _, parameters = parse_options_header(sent)
    plain = parameters.get(b"filename", b"")
    return clean_file_name(plain.decode(errors="replace")) if plain else None


def url_file_name(url: str) -> str:
    """Return the last component of a URL's path, cleaned."""
    return clean_file_name(unquote(urlsplit(url).path))


def clean_file_name(sent: str) -> str:
    """Return the last component of a path, printable."""
    name = sent.replace("\\", "/").rpartition("/")[2]
    printable = "".join(character for character in name if character.isprintable()).strip()
    return printable[-_MOST_CHARS:] or NAMELESS


def unescape(name: bytes) -> bytes:
    """Return a name or a field's name of a form without browsers' escapes."""
    return _BROWSER_ESCAPES.sub(lambda escape: bytes([int(escape[1], 16)]), name)


def _extended(disposition: bytes) -> str | None:
    found = _EXTENDED.search(disposition)
    if found is None:
        return None
    # Those of RFC 5987; Python has codecs that no header means, and some fail whatever is asked.
    charset = "latin-1" if found[1].lower() == b"iso-8859-1" else "utf-8"
    return unquote_to_bytes(found[2]).decode(charset, errors="replace")
