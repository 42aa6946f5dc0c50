"""Uniqueness keys: any text of the user's, as the name of a znode."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_DIGITS: Final = 32
_hash = re.compile(rf"[0-9a-f]{{{_DIGITS}}}").fullmatch


def hash_key(key: str) -> str:
    """What stands under `/keys` and in payloads for a key: the first 32 hex digits of its SHA-256."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def is_key_hash(name: str) -> bool:
    """Whether this is what `hash_key` gives."""
    return _hash(name) is not None
