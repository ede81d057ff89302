"""The form of an API key: ``lh_live_``, 32 random characters, 6 characters of checksum.

A character is one of 62, so 32 of them are 190.5 random bits. The checksum is the CRC-32 of all
that comes before it, in base 62: a mistyped key is told from a wrong one without a look at the
database. It protects nothing, as anybody can compute it.
"""

import hashlib
import re
import secrets
import zlib

from shared.infra.errors import InvalidRequest

PREFIX = "lh_live_"
RANDOM_CHARACTERS = 32
CHECKSUM_CHARACTERS = 6
"""62^6 is more than 2^32."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM_CHARACTERS + CHECKSUM_CHARACTERS}}}")


def make_key() -> str:
    """Return a new key."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{PREFIX}{drawn}{_checksum(PREFIX + drawn)}"


def check_key(key: str) -> None:
    """Check the form of a key.

    Raises:
        InvalidRequest: it is no key, or was mistyped; the message says which.
    """
    if not _KEY.fullmatch(key):
        raise InvalidRequest("it does not have the form of an API key")
    if _checksum(key[:-CHECKSUM_CHARACTERS]) != key[-CHECKSUM_CHARACTERS:]:
        raise InvalidRequest("its checksum is wrong, so it was mistyped or cut off")


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a key, which is what the database has of it."""
    return hashlib.sha256(key.encode()).digest()


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    digits = []
    for _ in range(CHECKSUM_CHARACTERS):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
