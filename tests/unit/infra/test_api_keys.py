"""The form of API keys."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.infra.api_keys import (
    CHECKSUM_CHARACTERS,
    PREFIX,
    RANDOM_CHARACTERS,
    check_key,
    digest_of,
    make_key,
)
from shared.infra.errors import InvalidRequest

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_new_key_has_190_random_bits_its_form_and_a_digest_of_its_own() -> None:
    keys = {make_key() for _ in range(100)}
    for key in keys:
        check_key(key)
        assert key.startswith(PREFIX)
        assert len(key) == len(PREFIX) + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS
    assert len(keys) == len(set(map(digest_of, keys))) == 100
    assert RANDOM_CHARACTERS * math.log2(len(ALPHABET)) >= 190
    drawn = "".join(key[len(PREFIX) :][:RANDOM_CHARACTERS] for key in keys)
    assert set(drawn) == set(ALPHABET)


@given(st.integers(0, RANDOM_CHARACTERS + CHECKSUM_CHARACTERS - 1), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_told_as_a_mistake(place: int, wrong: str) -> None:
    key = make_key()
    place += len(PREFIX)
    mistyped = key[:place] + wrong + key[place + 1 :]
    if mistyped == key:
        check_key(mistyped)
        return
    with pytest.raises(InvalidRequest, match="mistyped"):
        check_key(mistyped)


@given(st.text(max_size=60))
def test_any_other_text_is_no_key(text: str) -> None:
    for each in (text, PREFIX + text):
        with pytest.raises(InvalidRequest):
            check_key(each)
