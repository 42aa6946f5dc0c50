"""Uniqueness keys as names of znodes."""

from __future__ import annotations

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.keys import hash_key


@given(st.text(st.characters()))
def test_any_text_is_a_key(key: str) -> None:
    """Lone surrogates, of file names that are no UTF-8, included."""
    assert re.fullmatch(r"[0-9a-f]{32}", hash_key(key))


def test_a_key_is_its_sha_256_in_every_version() -> None:
    assert hash_key("daily report") == hashlib.sha256(b"daily report").hexdigest()[:32]
    assert hash_key("a") != hash_key("b")
